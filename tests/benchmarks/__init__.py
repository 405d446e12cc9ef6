"""Measurements that are made by hand."""

import os

# As in `python -m stages`: threads that spin while waiting would measure what else runs. torch reads this when it is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

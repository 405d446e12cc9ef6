"""Measurements that are made by hand."""

import stages.__main__  # noqa: F401 (says how threads wait, before torch is imported)

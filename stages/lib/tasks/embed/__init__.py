"""Embeddings of people (or other individuals): two pictures of one person are near each other, those of two people far apart.

The people of validation and test are in no training, so what is measured is whether a new face is recognised.
"""

METRICS = ("map_at_r", "recall_at_1", "auroc", "tar_at_far_1")
PRIMARY = "map_at_r"
HEADS = ("linear", "identity")
ADVISED = ()
PER = "example"
UNUSED: dict[str, object] = {"label_smoothing": 0, "balance": "sampling", "mixup": 0, "cutmix": 0}  # batches draw people equally
OWN = ("metric_learning",)  # options of `training` that it alone uses

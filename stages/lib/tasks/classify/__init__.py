"""Classification: one of several classes for each input."""

METRICS = ("accuracy", "balanced_accuracy", "macro_f1", "auroc")
PRIMARY = "accuracy"  # the one that is shown everywhere, on validation too
HEADS = ("linear", "knn", "prototype")
ADVISED = True  # the advisor's rule was measured on it

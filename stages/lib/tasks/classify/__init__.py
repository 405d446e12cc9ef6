"""Classification: one of several classes for each input."""

METRICS = ("accuracy", "balanced_accuracy", "macro_f1", "auroc")
PRIMARY = "accuracy"  # the metric shown everywhere, also on validation
HEADS = ("linear", "knn", "prototype")
ADVISED = True  # the advisor's rule was measured on this task

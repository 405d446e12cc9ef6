"""Classification: one of several classes for each input."""

METRICS = ("accuracy", "balanced_accuracy", "macro_f1", "auroc")
PRIMARY = "accuracy"  # the metric shown everywhere, also on validation
HEADS = ("linear", "knn", "prototype")
ADVISED = ("image",)  # the modalities on which the advisor's rule was measured for this task
ADAPTS = True  # strategies that adapt to unlabelled inputs can be used: `learning` has information and answers
PER = "example"  # what there is one output for
UNUSED: dict[str, object] = {}  # options of `training` that it does not use, each with the only value that it may have

"""Regression: one number for each input."""

METRICS = ("mean_absolute_error",)
PRIMARY = "mean_absolute_error"
HEADS = ("linear",)
ADVISED = ()
PER = "example"
UNUSED = {"label_smoothing": 0}

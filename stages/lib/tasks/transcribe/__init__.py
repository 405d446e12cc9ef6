"""Transcription: the text that is spoken in each input, by connectionist temporal classification (CTC)."""

METRICS = ("cer", "wer")  # character and word error rate
PRIMARY = "cer"  # the metric shown everywhere, also on validation
HEADS = ("linear",)
ADVISED: tuple[str, ...] = ()  # the modalities on which the advisor's rule was measured for this task
PER = "frame"  # what there is one output for
UNUSED: dict[str, object] = {"balance": "none", "label_smoothing": 0}  # options of `training` that it does not use

"""Masked-language modelling: which pieces of a text stood where some were hidden. It needs no labels."""

METRICS = ("masked_accuracy", "perplexity")
PRIMARY = "masked_accuracy"  # the metric shown everywhere, also on validation
HEADS = ("masked_language",)
ADVISED: tuple[str, ...] = ()  # the modalities on which the advisor's rule was measured for this task
PER = "word"  # what there is one output for; here a masked piece takes the place of a word's first piece
PRETEXT = True  # its questions are made from the inputs: it is for hops, and nothing is served or explained
# Options of `training` that it does not use, each with the only value that it may have.
UNUSED: dict[str, object] = {"label_smoothing": 0, "balance": "none", "augment": "none"}

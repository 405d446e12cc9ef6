"""Tagging: a tag for each word of a text, which mark its entities (IOB2: O, B-Disease, I-Disease)."""

METRICS = ("entity_f1", "entity_precision", "entity_recall", "token_accuracy")
PRIMARY = "entity_f1"  # the metric shown everywhere, also on validation
HEADS = ("linear",)
ADVISED: tuple[str, ...] = ()  # the modalities on which the advisor's rule was measured for this task
PER = "word"  # what there is one output for
UNUSED: dict[str, object] = {"balance": "none"}  # options of `training` that it does not use, each with the only value allowed

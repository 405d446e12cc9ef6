"""Few-shot classification: new classes from a few examples of each. An embedding is trained, and measured by episodes."""

METRICS = ("accuracy", "accuracy_euclidean", "accuracy_matching", "accuracy_linear_probe")
PRIMARY = "accuracy"  # of cosine prototypes. All metrics are those of the first `way` and the first of `shots`
HEADS = ("linear", "identity")
ADVISED = ()
PER = "example"
# The classes of the test are new, so they have no weights, and a batch draws its classes equally; smoothing and mixing are for
# the labels of a classifier, and an embedding has none.
UNUSED: dict[str, object] = {"label_smoothing": 0, "balance": "sampling", "mixup": 0, "cutmix": 0}
OWN = ("metric_learning",)  # options of `training` that tasks of embeddings alone use
NEEDS = ("episodes",)  # what the block of the measured dataset must hold
UNIT = "episode"  # what is measured and resampled, if it is not each example
PACKAGES = ("scikit-learn",)  # that the served model needs

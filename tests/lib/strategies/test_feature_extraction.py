"""What feature_extraction trains."""

from stages.lib.core.contracts import Phase
from stages.lib.strategies import feature_extraction
from tests.lib.strategies.blocks import head


def test_feature_extraction_trains_the_head_on_plain_examples(model):
    phases = feature_extraction.plan(model, epochs=3, head_lr=0.5)
    assert phases == [Phase(lrs=head(0.5), epochs=3, plain=True, penalties=(), statistics=True)]
    assert set(feature_extraction.UNUSED) == {"augment", "mixup", "cutmix"}

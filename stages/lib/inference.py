"""Running a network without training it: its logits, its features, and a head that is computed from them."""

import torch
from tqdm import tqdm

from stages.lib.examples import Examples


def predict(network, examples: Examples, batch_size: int) -> torch.Tensor:
    """Logits (N, num_classes) in float32, in evaluation mode and without augmentation."""
    network.eval()
    with torch.inference_mode():
        batches = torch.arange(len(examples.labels)).split(batch_size)
        return torch.cat([network(examples.inputs(indices, "none", None)).float() for indices in batches])


def features(fabric, model, examples: Examples, batch_size: int) -> Examples:
    """The same examples as features of the frozen backbone, (N, D)."""
    backbone = model.backbone.eval()
    batches = torch.arange(len(examples.labels)).split(batch_size)
    with torch.no_grad(), fabric.autocast():
        parts = [
            backbone(examples.inputs(indices, "none", None)).float()
            for indices in tqdm(batches, desc="features", disable=None, leave=False)
        ]
    computed = torch.cat(parts)
    return Examples(lambda indices, level, draws: computed[indices], examples.labels, num_draws=0)


def compute_head(fabric, model, train: Examples, batch_size: int) -> None:
    """Fill a head that is computed from the training features and not trained."""
    inputs, labels, _ = features(fabric, model, train, batch_size)
    model.head.compute(inputs(slice(None), "none", None), labels)

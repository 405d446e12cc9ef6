"""Proof of which tensors training changed: each is hashed before and after, and compared with what was declared."""

import hashlib

import pandas as pd
import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from stages.lib.errors import UserError


def declare(model: nn.Module) -> dict[str, str]:
    """What may change, by tensor name: "trainable" for parameters, "statistics" for the buffers of normalisation layers and
    "computed" for those of a head (both follow the data), and "frozen" for the rest."""
    declared = {name: "trainable" if parameter.requires_grad else "frozen" for name, parameter in model.named_parameters()}
    for name, _ in model.named_buffers():
        owner = model.get_submodule(name.rpartition(".")[0])
        follows = isinstance(owner, _NormBase) and owner.training and owner.track_running_stats
        declared[name] = "statistics" if follows else "computed" if getattr(owner, "computed", False) else "frozen"
    return {name: declared[name] for name in model.state_dict()}


def fingerprint(tensor: torch.Tensor) -> str:
    """Hash of a tensor's type, shape and bits."""
    tensor = tensor.detach().cpu().contiguous()
    head = f"{tensor.dtype} {tuple(tensor.shape)} ".encode()
    return hashlib.sha256(head + tensor.reshape(-1).view(torch.uint8).numpy().tobytes()).hexdigest()[:16]


def certify(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor], declared: dict[str, str]) -> pd.DataFrame:
    """Compare what changed with what was declared.

    Args:
        before, after: tensors and buffers by name, from state_dict().
        declared: from `declare`.

    Returns:
        One row per tensor: name, shape, declared, moved, change (||after - before|| / ||before||), the two hashes,
        and verdict: "ok", or what is wrong.
    """
    rows = []
    for name, kind in declared.items():
        old, new = before[name].detach().cpu(), after[name].detach().cpu()
        hashes = fingerprint(old), fingerprint(new)
        moved = hashes[0] != hashes[1]
        verdict = "frozen but moved" if moved and kind == "frozen" else "never moved" if not moved and kind != "frozen" else "ok"
        norm = old.double().norm().item()
        change = (new.double() - old.double()).norm().item() / norm if norm else float(moved)
        shape = "x".join(map(str, old.shape)) or "scalar"
        rows.append((name, shape, kind, moved, change, *hashes, verdict))
    columns = ["tensor", "shape", "declared", "moved", "change", "before", "after", "verdict"]
    return pd.DataFrame(rows, columns=columns)


def certify_own(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor], label: str = "penalty") -> pd.DataFrame:
    """The same for a module used only during training, such as a domain discriminator: declared as "not shipped"."""
    table = certify(before, after, dict.fromkeys(before, "not shipped"))
    return table.assign(tensor=f"{label}." + table["tensor"], verdict=table["verdict"].replace("never moved", "ok"))


def require(certificate: pd.DataFrame) -> None:
    """Raise a UserError that names the tensors that did not behave as declared."""
    wrong = certificate[certificate.verdict != "ok"]
    if len(wrong):
        lines = [f"  {row.tensor} (declared {row.declared}): {row.verdict}" for row in wrong.head(20).itertuples()]
        more = f"\n  and {len(wrong) - 20} more" if len(wrong) > 20 else ""
        raise UserError(
            f"Training did not do what was declared, for {len(wrong)} of {len(certificate)} tensors:\n"
            + "\n".join(lines)
            + more
            + "\nA frozen tensor that moved is a bug. A trainable one that never moved got no gradient, or steps smaller than "
            "its number format can show: look at lr, head_lr and warmup_epochs."
        )

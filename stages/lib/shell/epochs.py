"""What a training tells of its epochs: a line for each, one at its end, and how long it took."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from stages.lib.core import runs

Row = dict[str, Any]  # of the history of stages.lib.training.loop


@contextmanager
def told(label: str, epochs: Sequence[int]) -> Iterator[Callable[[list[Row]], None]]:
    """Tell of one training; a block that ends with an error tells nothing more.

    Args:
        label: "target mono-0".
        epochs: of each phase, as many as there may be.

    Yields:
        A function to call after each epoch with the history so far.
    """
    began = time.monotonic()
    seen: list[Row] = []
    ends: list[tuple[int, float]] = []  # of the epochs in this process: their phase, and when they ended

    def tell(history: list[Row]) -> None:
        seen[:] = history
        ends.append((history[-1]["phase"], time.monotonic()))
        print(line(history, epochs, seconds_left(history, epochs, began, ends)), flush=True)

    yield tell
    if seen:
        print(end(label, seen, epochs, time.monotonic() - began), flush=True)


def line(history: list[Row], epochs: Sequence[int], left: float) -> str:
    """One epoch, in less than 80 columns: its losses, the task's metric on validation, and whether it is the best so far."""
    row = history[-1]
    phase, most = row["phase"], epochs[row["phase"]]
    parts = [f"phase {phase + 1}/{len(epochs)}"] if len(epochs) > 1 else []
    parts += [f"epoch {len(_of_phase(history, phase)):{len(str(most))}}/{most}", f"loss {row['train_loss']:.3f}"]
    parts += [f"val {row['val_loss']:.3f}", _metric(row), "best" if row["best"] else "    "]
    parts += [f"{duration(left)} left"] if left else []
    return "  ".join(parts).rstrip()


def end(label: str, history: list[Row], epochs: Sequence[int], seconds: float) -> str:
    """What came of a training: its best epoch, and whether that was the last that it was allowed."""
    last = len(epochs) - 1
    best = next(row for row in reversed(history) if row["best"])
    text = (f"{label}: best epoch {best['epoch']} of {len(history)} (validation loss {best['val_loss']:.3f}, {_metric(best)}), "
            f"{duration(seconds)}")  # fmt: skip
    if best is history[-1] and len(_of_phase(history, last)) == epochs[last]:
        text += "\nThe best epoch was the last one: more epochs may help."
    return text


def seconds_left(history: list[Row], epochs: Sequence[int], began: float, ends: list[tuple[int, float]]) -> float:
    """How long the training takes at most from here: as long for each epoch as the mean of this phase in this process.

    Args:
        began: when the process began to train.
        ends: phase and end of each epoch since then.
    """
    phase: int = history[-1]["phase"]
    num = sum(of == phase for of, _ in ends)
    start = ends[-num - 1][1] if num < len(ends) else began
    each = (ends[-1][1] - start) / num
    return each * (sum(epochs[phase:]) - len(_of_phase(history, phase)))


def note_seconds(key: str, seconds: float, resumed: bool) -> None:
    """Keep how long a training took, in all processes in which it ran, by its key; no result holds it, or equal runs would
    differ."""
    path = _file(key)
    with suppress(OSError):  # for example, no space left on the disk
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{seconds + ((seconds_of(key) or 0) if resumed else 0):.1f}")


def seconds_of(key: str) -> float | None:
    """How long the training with this key took here; None if it was trained elsewhere."""
    try:
        return float(_file(key).read_text())
    except (OSError, ValueError):
        return None


def duration(seconds: float) -> str:
    """A duration in words: "42 s", "7 min"."""
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def _file(key: str) -> Path:
    return runs.state_folder() / "trained" / key[:16]


def _of_phase(history: list[Row], phase: int) -> list[Row]:
    return [row for row in history if row["phase"] == phase]


def _metric(row: Row) -> str:
    """The task's primary metric, which tasks name right after the loss."""
    name = next((name for name in row if name.startswith("val_") and name != "val_loss"), "")
    return f"{name.removeprefix('val_').replace('_', ' ')} {row[name]:.3f}" if name else ""

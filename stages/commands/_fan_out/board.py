"""What the terminal says meanwhile: what begins and ends, and, on a terminal, a line for each worker and one for the whole."""

import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from stages.commands._fan_out.graph import Needs
from stages.commands._fan_out.schedule import Running, State, blocked, last_line, left_s
from stages.lib.params import read as params
from stages.lib.shell import plan as plans
from stages.lib.shell import progress
from stages.lib.shell.epochs import duration
from stages.lib.shell.plan import Plan, Stage

EVERY_S = 1.0
LINES = 16  # of workers on a terminal, at most


class Expected:
    """What will run, as far as it is known, and how long each stage will take, from earlier runs here."""

    def __init__(self, targets: Sequence[str]):
        self.will: set[str] = set()
        self._stages: dict[str, Stage] = {}
        self._plan = Plan([], [], time.time())
        with suppress(Exception):  # an observer: what is wrong with dvc.yaml, DVC says itself
            values = params.read()
            stages = progress.expand(progress.read_dvc_yaml(), values)
            self.will = {*plans.will_run(Stage("", [], [], []), stages, plans.read_lock(), values, targets)} - {""}
            self._stages = {stage.name: stage for stage in stages if not stage.always}
            self.will &= self._stages.keys()
        self.look()

    def look(self) -> None:
        """See how long the stages took that have ended by now."""
        self._timed = progress.read_timed()
        self._known: dict[str, float | None] = {}
        self._kin = [stage for stage in self._stages.values() if progress.file_name(stage.words) in self._timed]

    def seconds(self, name: str) -> float | None:
        """How long a stage will take; None if none of its kind has run here."""
        if name not in self._known:
            stage = self._stages.get(name)
            self._known[name] = progress.expected(stage, self._plan, self._kin, self._timed) if stage else None
        return self._known[name]

    def weight(self, name: str) -> float:
        """The same, as a number in any case: a stage that nothing is known of counts as the mean of the others."""
        found = self.seconds(name)
        if found is None:
            known = [each.seconds for each in self._timed.values()]
            found = sum(known) / len(known) if known else 1.0
        return found


@contextmanager
def shown(needs: Needs, workers: int, expected: Expected) -> Iterator[Callable[[str, State], None]]:
    """Show what happens.

    Yields:
        A function that is called with a sentence and the state whenever something happened, and with "" often.
    """
    live = sys.stdout.isatty()
    drawn, last = 0, 0.0

    def tell(sentence: str, state: State) -> None:
        nonlocal drawn, last
        if not sentence and (not live or time.monotonic() - last < EVERY_S):
            return
        last = time.monotonic()
        if sentence:
            expected.look()
            expected.will |= {each.name for each in state.running.values()}
        rest = whole(state, needs, workers, expected)
        lines = [sentence] if sentence else []
        if live:
            at_work = [line(slot, each, expected) for slot, each in sorted(state.running.items())]
            more = [f"and {len(at_work) - LINES} workers more"] if len(at_work) > LINES else []
            lines += [*at_work[:LINES], *more, rest]
            width = shutil.get_terminal_size().columns - 1
            text = "".join(f"{each[:width]}\n" for each in lines)
            print(f"\x1b[{drawn}F\x1b[J{text}" if drawn else text, end="", flush=True)  # over the lines of before
            drawn = len(lines) - bool(sentence)
        else:
            print(f"{sentence}; {rest}", flush=True)

    yield tell


def line(slot: int, at_work: Running, expected: Expected) -> str:
    """What one worker does: "worker 1: target@mono-0, 12 s of about 40 s: epoch 5/15 ..."."""
    about = expected.seconds(at_work.name)
    took = duration(time.monotonic() - at_work.since)
    if about is not None:
        took += f" of about {duration(about)}"
    return f"worker {slot + 1}: {at_work.name}, {took}: {last_line(at_work.job.log)}"


def whole(state: State, needs: Needs, workers: int, expected: Expected) -> str:
    """How far everything is: "3 stages done, 2 at work, 7 to come, about 5 min left"; what cannot begin any more is left out."""
    come = [name for name in state.todo if name in expected.will and name not in blocked(state, needs)]
    text = f"{len(state.ran)} done, {len(state.running)} at work, {len(come)} to come"
    if not come and not state.running:
        return text
    left = left_s(come, state.running, needs, workers, expected.weight)
    unknown = sum(expected.seconds(name) is None for name in [*come, *(each.name for each in state.running.values())])
    return f"{text}, about {duration(left)} left" + (f" ({unknown} untimed)" if unknown else "")

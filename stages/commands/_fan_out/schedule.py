"""What is given to which worker, and when: each stage once all that it needs is done, the longest way to the end first."""

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, Protocol

from stages.commands._fan_out.graph import Needs

POLL_S = 0.1
AGAIN_S = 2  # pause before trying again, after another dvc was busy with a stage's files or the queue was full
BUSY = "it is being blocked by"  # what dvc says then


class Full(Exception):
    """No job can be begun now, and why; perhaps later."""


class Job(Protocol):
    """One stage that an engine runs."""

    log: Path  # all that it says

    def code(self) -> int | None:
        """The exit code of its dvc, negative for a signal; None while it runs."""

    def end(self) -> None:
        """Ask it to end early; called again and again until it has."""

    def kill(self) -> None:
        """End it at once."""


class Running(NamedTuple):
    """A stage at work."""

    name: str
    job: Job
    since: float  # monotonic seconds


class State(NamedTuple):
    """What is done, at work and still to come."""

    done: set[str]  # these, and those that had nothing to do
    ran: list[str]
    running: dict[int, Running]  # by worker, counted from 0
    todo: list[str]
    failed: dict[str, str]  # with why, in one line


def run(
    needs: Needs,
    workers: int,
    start: Callable[[str, int], Job],
    changed: Callable[[Collection[str]], set[str]],
    weigh: Callable[[str], float],
    tell: Callable[[str, State], None],
    grace_s: float = 20,
) -> State:
    """Run all stages that have something to do; a failed one stops only those that need it.

    Args:
        start: gives a stage to a worker.
        changed: which of some stages, whose needs are done, have something to do.
        weigh: seconds that a stage is expected to take.
        tell: called with a sentence whenever something happened, and with "" often.
        grace_s: how long jobs may take to end when this function is interrupted.

    Returns:
        The state at the end. `todo` then names the stages that need a failed one.
    """
    state = State(set(), [], {}, list(needs), {})
    rank = _ranks(needs, weigh)
    ready: list[str] = []
    later: dict[str, float] = {}  # stages to try again, and when
    full = 0.0  # when to try again if no job at all could be begun
    try:
        while True:
            while fresh := [name for name in state.todo if needs[name] <= state.done and name not in ready]:
                have = changed(fresh)
                ready += [name for name in fresh if name in have]
                _move(state, [name for name in fresh if name not in have])
            ready.sort(key=lambda name: -rank[name])
            for slot in [slot for slot in range(workers) if slot not in state.running and time.monotonic() >= full]:
                name = next((each for each in ready if later.get(each, 0) <= time.monotonic()), None)
                if name is None:
                    break
                first = name not in later
                try:
                    job = start(name, slot)
                except Full as why:
                    if not full:
                        tell(f"{name} waits: {why}", state)
                    full = time.monotonic() + AGAIN_S
                    break
                full = 0.0
                ready.remove(name)
                state.todo.remove(name)
                state.running[slot] = Running(name, job, time.monotonic())
                if first:
                    tell(f"worker {slot + 1}: {name} begins", state)
            if not state.running and not ready:
                return state
            tell("", state)
            time.sleep(POLL_S)
            for slot, at_work in list(state.running.items()):
                code = at_work.job.code()
                if code is None:
                    continue
                del state.running[slot]
                name, took = at_work.name, time.monotonic() - at_work.since
                if code == 0:
                    state.done.add(name)
                    state.ran.append(name)
                    tell(f"{name} done in {took:.0f} s", state)
                elif code > 0 and (busy := blocker(at_work.job.log)):
                    if name not in later:
                        tell(f"{name} waits: {busy}", state)
                    later[name] = time.monotonic() + AGAIN_S
                    state.todo.append(name)
                    ready.append(name)
                else:
                    state.failed[name] = reason(code, at_work.job.log)
                    tell(f"{name} failed: {state.failed[name]}", state)
    finally:
        stop([each.job for each in state.running.values()], grace_s)


def stop(jobs: Collection[Job], grace_s: float) -> None:
    """Let all end, and kill those that have not after a while."""
    until = time.monotonic() + grace_s
    while left := [job for job in jobs if job.code() is None]:
        for job in left:
            if time.monotonic() < until:
                job.end()
            else:
                job.kill()
        time.sleep(POLL_S)


def blocked(state: State, needs: Needs) -> set[str]:
    """The stages that cannot begin, because one that they need has failed."""
    found: set[str] = set()
    for name in needs:
        if needs[name] & (state.failed.keys() | found):
            found.add(name)
    return found


def left_s(
    come: Collection[str], running: Mapping[int, Running], needs: Needs, workers: int, weigh: Callable[[str], float]
) -> float:
    """How long the rest will take at least: the longest way through it, or all of it evenly over the workers."""
    now = time.monotonic()
    rest = {name: weigh(name) for name in come}
    rest |= {each.name: max(0.0, weigh(each.name) - (now - each.since)) for each in running.values()}
    ways = _ranks({name: needs[name] for name in needs if name in rest}, lambda name: rest[name])
    return max([sum(rest.values()) / workers, *ways.values()])


def reason(code: int, log: Path) -> str:
    """Why a stage failed, in one line: what it said itself if it did, else what dvc said, or the signal."""
    if code < 0:
        return f"its dvc was killed (signal {-code}); see {log}"
    lines = [line.strip() for line in _lines(log)]
    own = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    dvc = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return f"{next(iter([*reversed(own), *reversed(dvc)]), f'exit code {code}')}; see {log}"


def blocker(log: Path) -> str:
    """Which other dvc is busy with files of a stage, or ""."""
    lines = iter(_lines(log))
    for line in lines:
        if BUSY in line:
            return f"its files are in use by {next(lines, '').strip() or 'another dvc'}"
    return ""


def last_line(log: Path) -> str:
    """What a job said last."""
    return next((line.strip() for line in reversed(list(_lines(log))) if line.strip()), "")


def _lines(log: Path) -> Iterator[str]:
    """The last lines of a log, which may be long, or not be there yet."""
    try:
        with open(log, "rb") as file:
            file.seek(max(0, file.seek(0, 2) - 20_000))
            yield from file.read().decode(errors="replace").replace("\r", "\n").splitlines()
    except OSError:
        return


def _ranks(needs: Needs, weigh: Callable[[str], float]) -> dict[str, float]:
    """Of each stage, the seconds of the longest way from its beginning to the end."""
    ranks: dict[str, float] = {}
    after: dict[str, float] = {}
    for name in reversed(list(needs)):  # those that need it come after it
        ranks[name] = weigh(name) + after.get(name, 0.0)
        for each in needs[name]:
            after[each] = max(after.get(each, 0.0), ranks[name])
    return ranks


def _move(state: State, unchanged: Collection[str]) -> None:
    """Count stages that have nothing to do as done."""
    for name in unchanged:
        state.todo.remove(name)
        state.done.add(name)

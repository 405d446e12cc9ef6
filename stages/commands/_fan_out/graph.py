"""Which stages there are, what each needs, and which have something to do: as DVC itself says."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from stages.lib.errors import UserError

Needs = Mapping[str, frozenset[str]]  # the stages by name, in the order of `dvc repro`, with those that each needs directly


def read(targets: Sequence[str]) -> Needs:
    """These targets and all that they need; without targets, all stages.

    Stages that always run are left out: the plain `dvc repro` at the end runs them.

    Raises:
        UserError: dvc.yaml cannot be read, or there is no such target.
    """
    from dvc.repo.reproduce import collect_stages, plan_repro

    with _repo() as repo:
        graph = repo.index.graph
        asked = collect_stages(repo, targets) if targets else None
        stages = [stage for stage in plan_repro(graph, asked) if not stage.always_changed]
        names = {stage.addressing for stage in stages}
        return {each.addressing: frozenset(n.addressing for n in graph.successors(each)) & names for each in stages}


def changed(names: Collection[str]) -> set[str]:
    """Those of the stages that DVC would run, or take from its cache, if it came to them now.

    What they need must be there. Waits while another dvc holds its lock.
    """
    from dvc.lock import LockError
    from dvc.repo import lock_repo

    found: set[str] = set()
    with _repo() as repo, lock_repo(repo):  # `repo.status(names)` would read dvc.lock again for each of them
        for stage in (each for each in repo.index.stages if each.addressing in names):
            try:
                found |= stage.status(check_updates=True).keys()
            except LockError:  # another dvc writes what it reads or makes, and will say so again, to whom the stage is given
                found.add(stage.addressing)
    return found


@contextmanager
def _repo() -> Iterator[Any]:
    """The repository; its lock is waited for. Imported here, because dvc takes a while."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo(_wait_for_lock=True) as repo:
            yield repo
    except DvcException as error:
        raise UserError(str(error)) from None

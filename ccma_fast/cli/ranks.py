"""The processes that ``torchrun`` has started, as the ranks of one command."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ..errors import RankError
from ..system.streams import tell

if TYPE_CHECKING:
    from ..system.ranks import Ranks

__all__ = ["check_runs_alone", "is_told_here", "ranks_of_command"]


@contextmanager
def ranks_of_command(backend: str) -> Iterator[Ranks | None]:
    """The ranks of a command, None where it runs by itself; what is raised inside names the rank."""
    from ..backends.choose import choose_backend
    from ..query.ranks.run import identity

    tasks = os.environ.get("SLURM_STEP_NUM_TASKS", "1")
    if tasks != "1" and not os.environ.get("WORLD_SIZE"):
        tell(
            f"ccma-fast: warning: srun has started {tasks} tasks, and each of them does all by itself; how they share "
            "the work stands in the guide on several machines"
        )
    from ..system.ranks import ranks_of_environment, told

    chosen = choose_backend(backend)
    device = "cuda" if chosen.NAME == "cuda" else "cpu"
    with ranks_of_environment(backend=device, identity=identity(chosen)) as ranks:
        try:
            yield ranks
        except (ValueError, TypeError, OSError, ImportError) as error:
            if ranks is None:
                raise
            raise RankError(told(ranks.names[ranks.rank], error), ranks.rank) from error


def check_runs_alone(command: str, instead: str = "select and extract alone run on several ranks") -> None:
    """Check that a command that several processes cannot share runs in one; `instead` says what does."""
    if (n := os.environ.get("WORLD_SIZE", "1")) != "1":
        raise ValueError(
            f"{command} runs in one process, got {n} (the environment variable WORLD_SIZE, as torchrun sets it); "
            f"expected a call without torchrun: {instead}"
        )


def is_told_here(error: RankError) -> bool:
    """Whether this process prints an error of all ranks: where it happened, and the first.

    For the first itself, the next one prints it, and one on each machine: the next one may be missing as well.
    """
    rank, of_machine = os.environ.get("RANK", "0"), os.environ.get("LOCAL_RANK")
    return rank in ("0", str(error.rank)) or (error.rank == 0 and (rank == "1" or of_machine == "0"))

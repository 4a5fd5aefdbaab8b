"""What a query will take, without running it."""

from __future__ import annotations

from typing import Any

from ..checks import check_integer, check_number
from ..config import CCMAConfig
from ..steps.teacher import Teacher
from .acquisitions.table import ACQUISITIONS
from .arguments import checked_arguments, inputs_of
from .cost_model import cost_inputs_of, forecast
from .plan import Plan
from .rates import machine_rates
from .select import validation_of
from .wire_costs import MOST_RANKS, Network

__all__ = ["plan"]


# long: what a caller needs to know of a plan; the code is short
def plan(
    features: Any,
    budget: int,
    *,
    labels: Any = None,
    class_names: Any = None,
    teacher: Teacher | None = None,
    student: Any = None,
    student_logits: Any = None,
    config: CCMAConfig | None = None,
    backend: str = "auto",
    chunk_size: int | None = None,
    memory_limit: int | str | None = None,
    exclude: Any = None,
    pending: Any = None,
    include: Any = None,
    min_distance: float | None = None,
    class_distribution: Any = None,
    ranks: int | None = None,
    network_gbit_s: float | None = None,
    network_latency_ms: float | None = None,
) -> Plan:
    """Expected cost of :func:`ccma_fast.select` with the same arguments: passes, bytes, memory, seconds of each stage.

    Nothing of the query runs. The arguments are checked as far as shapes and labels tell, and this machine's rates are
    measured on a small part of the pool, in under a second. :mod:`ccma_fast.query.cost_model` tells how costs follow
    from shapes. Every report has bytes and memory too, beside what was measured.

    Parameters
    ----------
    features, budget, labels, ..., class_distribution
        As in :func:`ccma_fast.select`.
    ranks : int, optional
        Plan for a query on so many processes (`group` of :func:`ccma_fast.select`), each on a machine like this one
        and with as many rows; by default for a single process. None of them has to run.
    network_gbit_s, network_latency_ms : float, optional
        Rate of a rank's network link, in 10⁹ bits a second, and latency of a message, in milliseconds: 10 and 0.1 by
        default. With `ranks`.

    Returns
    -------
    Plan
        Prints as a table. Memory is how far the process's resident memory, mapped files included, will rise above
        where it is when the query begins. Seconds are an expectation: epochs and iterations are not known before. For
        several ranks it tells as well what the first one and the others take, bytes and messages between them, and what
        the time goes to.

    Raises
    ------
    ValueError, TypeError
        As :func:`ccma_fast.select`, but for what only shows when the pool is read.

    Examples
    --------
    >>> import numpy as np, ccma_fast as cf
    >>> x = np.random.default_rng(0).standard_normal((1000, 16), dtype=np.float32)
    >>> cf.plan(x, 5).stages["check"].bytes_read == x.nbytes
    True
    >>> 4 * cf.plan(x, 5, ranks=4).stages["check"].other.bytes_read == x.nbytes
    True
    """
    n_ranks, network = _planned_ranks(ranks, network_gbit_s, network_latency_ms)
    arguments = checked_arguments(
        features,
        budget,
        labels=labels,
        class_names=class_names,
        teacher=teacher,
        student=student,
        student_logits=student_logits,
        config=config,
        random_state=0,
        backend=backend,
        chunk_size=chunk_size,
        memory_limit=memory_limit,
        exclude=exclude,
        pending=pending,
        include=include,
        min_distance=min_distance,
        class_distribution=class_distribution,
    )
    inputs = inputs_of(arguments)
    acquisition = ACQUISITIONS[inputs.acquisition]
    given = cost_inputs_of(inputs, acquisition, validation_of(inputs, acquisition).lazy, n_ranks=n_ranks)
    rates = machine_rates(given, arguments.backend)
    return forecast(given, acquisition, rates, network=network)


def _planned_ranks(ranks: int | None, gbit_s: float | None, latency_ms: float | None) -> tuple[int, Network]:
    if ranks is None and not (gbit_s is None and latency_ms is None):
        raise ValueError("network_gbit_s and network_latency_ms are those of a network between ranks; give ranks too")
    network = Network()
    if gbit_s is not None:
        network = network._replace(gbit_s=check_number("network_gbit_s", gbit_s, above=0.0))
    if latency_ms is not None:
        network = network._replace(latency_ms=check_number("network_latency_ms", latency_ms, minimum=0.0))
    return 1 if ranks is None else check_integer("ranks", ranks, minimum=1, maximum=MOST_RANKS), network

"""Running cells on a Ray cluster: what is asked of it is understood before anything starts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from harness import __version__
from harness.drive.executors import Executor
from harness.drive.faults import fault_file
from harness.drive.job import CellJob
from harness.errors import UsageError
from harness.extras import require
from harness.history.run_description import AskedOptions
from harness.models.model import Model
from harness.servers.base import Runtime
from harness.servers.process.runtime import installed_vllm
from harness.servers.select import Choice, Wanted, choose_runtime

EXECUTORS = ("local", "ray")


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """A Ray cluster, and what a cell takes of a node, by Ray's names for resources."""

    address: str
    resources: Mapping[str, float]


def asked_cluster(
    executor: str, *, address: str | None, resources: Sequence[str], foreign_servers: bool
) -> Cluster | None:
    """The cluster that is asked for; None where cells run here.

    Without an address it is the one that this machine is part of; ``foreign_servers`` are not a run's own to
    start and to end.

    Raises:
        UsageError: it cannot be understood, options contradict each other, or Ray is missing.
    """
    if executor not in EXECUTORS:
        raise UsageError(f"there is no executor {executor!r}", remedy=f"one of {', '.join(EXECUTORS)}")
    if executor == "local":
        if address is not None or resources:
            raise UsageError("--address and --resource apply only to a cluster", remedy="add --executor ray")
        return None
    if foreign_servers:
        raise UsageError(
            "the nodes of a cluster start and stop their own servers",
            remedy="leave out --endpoint and --keep-servers",
        )
    require("ray", for_what="--executor ray")
    return Cluster(address=address or "auto", resources=dict(map(_resource, resources)))


def _resource(word: str) -> tuple[str, float]:
    name, _, amount = word.partition("=")
    try:
        value = float(amount)
    except ValueError:
        value = math.nan
    if not name or not 0 <= value < math.inf:
        raise UsageError(f"--resource: cannot understand {word!r}", remedy="for example --resource CPU=4")
    return name, value


@contextmanager
def spread_over(
    cluster: Cluster,
    choice: Choice,
    jobs: Sequence[CellJob],
    *,
    model: Model,
    asked: AskedOptions,
    tell: Callable[[str], None],
) -> Iterator[Executor]:
    """An executor that spreads ``jobs`` over the nodes of ``cluster``.

    Every node has the runtime that was chosen here, and is to find the same model, fault and release.
    ``tell`` is told in words what happens to nodes.

    Raises:
        RuntimeUnavailableError: a node lacks something.
    """
    from harness.drive.ray_executor import RayExecutor, connected
    from harness.drive.ray_node import Setting

    release = asked.vllm or (None if asked.image else installed_vllm())
    wanted = Wanted(runtime=choice.runtime.name, vllm=release, image=asked.image)
    setting = Setting(
        version=__version__,
        model=model,
        model_reference=None if asked.model is None else model.location,
        fault_file=fault_file(asked.fault),
        runtime_of=partial(_runtime_there, wanted),
    )
    with connected(cluster.address):
        executor = RayExecutor(
            setting=setting, engine=choice.runtime.engine, resources=cluster.resources, tell=tell
        )
        executor.require_ready([*jobs])
        yield executor


def _runtime_there(wanted: Wanted) -> Runtime:
    """The runtime of the node this is called on, of the same kind and with the same vLLM as here."""
    return choose_runtime(wanted).runtime

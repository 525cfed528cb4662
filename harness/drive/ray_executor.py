"""Spreads cells over the nodes of a Ray cluster: scheduling and failure detection are Ray's.

A cell is an actor that is given its GPUs, cores and other resources by Ray, and hands out every event of
its history while it runs.  What arrives is written into the run directory here, so that this directory is
whole, and judging stays where it was.  A cell whose node is lost runs again elsewhere: the machine failed,
which says nothing about the engine.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import cast

import anyio
import anyio.to_thread
import ray
from ray.actor import ActorHandle
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from harness.drive.cell import EarlyLooks, cell_started
from harness.drive.executors import Work, make_room
from harness.drive.job import CellJob
from harness.drive.ray_node import CellOnNode, Delivery, Lines, LogPiece, Refusal, Setting, refusal_of
from harness.drive.recorder import Recorder, Watcher
from harness.errors import NodeLostError, RuntimeUnavailableError, StorageError
from harness.history.events import EVENT, CellFailed
from harness.history.files import storing
from harness.history.layout import HISTORY_FILE, SERVER_LOG
from harness.servers.base import Engine
from harness.servers.flags import ranks_of

TRIES = 3
"""How often a cell is begun before its lost nodes become its error."""

_CONNECT_DEADLINE_S = 5.0
_CHECK_DEADLINE_S = 600.0
"""For every node to show that it has the model; the default one may have to be converted first."""
_NODES_LOOK_S = 5.0
_STOP_DEADLINE_S = 60.0
"""For a node to stop a server in order; after it, the process that holds the cell is killed."""

_RAYS_OWN = {"CPU": "num_cpus", "GPU": "num_gpus", "memory": "memory"}


@dataclass(frozen=True, kw_only=True)
class Node:
    """A machine of the cluster, with all that Ray may hand out of it."""

    id: str
    name: str
    resources: Mapping[str, float]

    def fits(self, demand: Mapping[str, float]) -> bool:
        """Whether it could meet the demand if nothing else ran on it."""
        return all(self.resources.get(name, 0.0) >= amount for name, amount in demand.items())


@contextmanager
def connected(address: str) -> Iterator[None]:
    """Be a driver of the cluster at ``address``: ``auto`` for the one this machine is part of, or HOST:PORT.

    Raises:
        RuntimeUnavailableError: there is none, or it cannot be joined.
    """
    _require_somebody_at(address)
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (RuntimeError, OSError, ValueError) as error:
        raise _no_cluster(address, str(error)) from error
    try:
        yield
    finally:
        ray.shutdown()


def _require_somebody_at(address: str) -> None:
    """Ray itself would try for two minutes."""
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECT_DEADLINE_S).close()
    except (OSError, ValueError) as error:
        raise _no_cluster(address, str(error)) from error


def _no_cluster(address: str, why: str) -> RuntimeUnavailableError:
    return RuntimeUnavailableError(
        f"cannot join a Ray cluster at {address}: {why}",
        remedy="start sleepwake on a machine of the cluster, with --address as printed by `ray start`",
    )


def _nodes() -> list[Node]:
    return [
        Node(id=each["NodeID"], name=each["NodeName"], resources=each["Resources"])
        for each in ray.nodes()  # type: ignore[no-untyped-call]  # it has no annotations
        if each["Alive"]
    ]


def demand_of(
    job: CellJob, *, engine: Engine, asked: Mapping[str, float], nodes: Sequence[Node]
) -> dict[str, float]:
    """What one cell takes of a node; what was asked for by name goes before our own reckoning.

    A GPU engine takes as many GPUs as it is spread over and one core.  A CPU engine wants the machine to
    itself: it takes the cores of the smallest node.
    """
    if engine == "gpu":
        return {"CPU": 1.0, "GPU": float(ranks_of(job.spec.args)), **asked}
    cores = [node.resources["CPU"] for node in nodes if node.resources.get("CPU")]
    return {"CPU": min(cores, default=1.0), "GPU": 0.0, **asked}


@dataclass(kw_only=True)
class _Copy:
    """The history of a cell that runs elsewhere, as far as it has come back."""

    job: CellJob
    watcher: Watcher
    recorder: Recorder | None = None

    def take(self, delivery: Delivery) -> None:
        """Store what came, whatever it is."""
        match delivery:
            case Lines():
                for line in delivery.lines:
                    self._opened().record(EVENT.validate_json(line))
            case LogPiece():
                self._append_to_log(delivery.content)
            case Refusal():
                self.fail(delivery)

    def fail(self, refusal: Refusal) -> None:
        """End it with an error; what has come back is kept."""
        nothing_came = self.recorder is None
        recorder = self._opened()
        if nothing_came:
            recorder.record(cell_started(self.job, recorder))
        recorder.record(CellFailed(t=recorder.now(), **vars(refusal)))

    def close(self) -> None:
        """Close it; nothing more is coming."""
        if self.recorder is not None:
            self.recorder.close()

    def _opened(self) -> Recorder:
        if self.recorder is None:
            self.recorder = Recorder(self.job.directory / HISTORY_FILE, watcher=self.watcher)
        return self.recorder

    def _append_to_log(self, content: bytes) -> None:
        path = self.job.directory / SERVER_LOG
        with storing(path), path.open("ab") as log:
            log.write(content)


@dataclass(frozen=True, kw_only=True)
class RayExecutor:
    """Runs cells on the cluster this process is connected to, as many at a time as it has room for.

    Every cell has a server of its own, and takes of a node what is asked for by Ray's names instead of what
    is reckoned.  ``tell`` is told in a sentence when one has to run again.
    """

    setting: Setting
    engine: Engine
    resources: Mapping[str, float] = field(default_factory=dict)
    tell: Callable[[str], None]

    def require_ready(self, jobs: Sequence[CellJob]) -> None:
        """Return when every node that may get a cell has what the cells need.

        Raises:
            RuntimeUnavailableError: some node has not, or no node is large enough for some cell.
        """
        nodes = _nodes()
        demands = [self._demand(job, nodes) for job in jobs]
        for job, demand in zip(jobs, demands, strict=True):
            if not any(node.fits(demand) for node in nodes):
                raise _too_small(job, demand, nodes)
        asked = {
            node.name: ray.remote(refusal_of)
            .options(num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False))
            .remote(self.setting)
            for node in nodes
            if any(node.fits(demand) for demand in demands)
        }
        for name, answer in asked.items():
            try:
                refusal = ray.get(answer, timeout=_CHECK_DEADLINE_S)
            except RayError as error:
                raise RuntimeUnavailableError(
                    f"node {name} cannot run sleepwake: {error}",
                    remedy="install the same version of sleepwake on every node",
                ) from error
            if refusal is not None:
                raise RuntimeUnavailableError(f"node {name}: {refusal.cause}", remedy=refusal.remedy)

    async def run_all(self, work: Work) -> None:
        """Run every cell; Ray decides where and when.  Once it is over, those still running are stopped."""
        nodes = _nodes()

        async def see_to(job: CellJob) -> None:
            await self._see_to(work, job, self._demand(job, nodes))
            if work.is_over():
                group.cancel_scope.cancel()

        try:
            async with anyio.create_task_group() as group:
                for job in work.jobs:
                    group.start_soon(see_to, job)
        except* StorageError as errors:
            raise errors.exceptions[0] from None

    def _demand(self, job: CellJob, nodes: Sequence[Node]) -> dict[str, float]:
        return demand_of(job, engine=self.engine, asked=self.resources, nodes=nodes)

    async def _see_to(self, work: Work, job: CellJob, demand: Mapping[str, float]) -> None:
        for attempt in range(1, TRIES + 1):
            make_room(job.directory)
            copy = _Copy(job=job, watcher=work.watcher_of(job))
            try:
                await _attempt(copy, self.setting, work.looks, demand)
            except NodeLostError as error:
                if attempt < TRIES and any(node.fits(demand) for node in await _nodes_now()):
                    self.tell(f"{job.cell.id}: {error.cause}; it runs again ({attempt + 1} of {TRIES})")
                    continue
                copy.fail(Refusal.of(error))
            finally:
                copy.close()
            return


async def _nodes_now() -> list[Node]:
    return await anyio.to_thread.run_sync(_nodes)


async def _attempt(copy: _Copy, setting: Setting, looks: EarlyLooks, demand: Mapping[str, float]) -> None:
    """Run a cell on some node once.

    Raises:
        NodeLostError: the node, or the process on it, is gone.
        StorageError: the run directory cannot be written any more.
    """
    actor_class = ray.remote(CellOnNode).options(**_as_options(demand))
    actor = cast(ActorHandle[CellOnNode], actor_class.remote(copy.job, setting, looks))
    try:
        if refusal := await _begun(actor, demand):
            copy.fail(refusal)
        else:
            await _received(actor, copy)
    except RayTaskError:
        raise  # a defect of ours, with its traceback
    except RayError as error:
        said = str(error).strip().partition("\n")[0]
        raise NodeLostError(
            f"the node that ran the cell was lost: {said}",
            remedy="look at the node; `sleepwake run --resume` runs the cell again",
        ) from error
    finally:
        ray.kill(actor)


async def _begun(actor: ActorHandle[CellOnNode], demand: Mapping[str, float]) -> Refusal | None:
    """Wait until a node has taken the cell; as long as there is one that could, for ever."""
    begun: ray.ObjectRef[Refusal | None] = actor.begin.remote()
    while True:
        with anyio.move_on_after(_NODES_LOOK_S):
            return await begun
        if not any(node.fits(demand) for node in await _nodes_now()):
            raise NodeLostError(
                f"no node is left that has {_shown(demand)}", remedy="look at the nodes with `ray status`"
            )


async def _received(actor: ActorHandle[CellOnNode], copy: _Copy) -> None:
    """Store what the cell hands out; when cancelled, have it stopped in order and store the rest."""
    receiving = anyio.CancelScope(shield=True)

    async def stop_when_cancelled() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            actor.stop.remote()
            receiving.deadline = anyio.current_time() + _STOP_DEADLINE_S

    try:
        async with anyio.create_task_group() as group:
            group.start_soon(stop_when_cancelled)
            with receiving:
                async for reference in actor.run.options(num_returns="streaming").remote():
                    delivery: Delivery = await reference
                    copy.take(delivery)
            group.cancel_scope.cancel()  # stopping what has ended does nothing
    except* (RayError, StorageError) as errors:
        raise errors.exceptions[0] from None


def _as_options(demand: Mapping[str, float]) -> dict[str, object]:
    own = {option: demand[name] for name, option in _RAYS_OWN.items() if name in demand}
    others = {name: amount for name, amount in demand.items() if name not in _RAYS_OWN}
    return {**own, "resources": others, "max_restarts": 0, "max_task_retries": 0}


def _too_small(job: CellJob, demand: Mapping[str, float], nodes: Sequence[Node]) -> RuntimeUnavailableError:
    there = "; ".join(f"{node.name}: {_shown(node.resources)}" for node in nodes)
    return RuntimeUnavailableError(
        f"no node has {_shown(demand)} for {job.cell.id} (there are {there})",
        remedy="ask for less with --resource NAME=AMOUNT, or add nodes to the cluster",
    )


def _shown(resources: Mapping[str, float]) -> str:
    counted = {name: amount for name, amount in resources.items() if amount and "node:" not in name}
    return ", ".join(f"{name}={amount:g}" for name, amount in counted.items()) or "nothing"

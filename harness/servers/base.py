"""What a server is to the rest of the harness, whoever runs it.

A *runtime* (``process``, ``docker``, ``attached``, ``inprocess``) turns a :class:`ServerSpec` into a
:class:`Server` that answers HTTP, and makes sure that nothing of it is left afterwards.
The script that drives a server never asks which runtime it came from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Literal, Protocol

from harness.reaching import NOTHING_SPECIAL, Access

RuntimeName = Literal["process", "docker", "attached", "inprocess"]
Engine = Literal["cpu", "gpu", "unknown"]

EMULATED_CPU_SLEEP = "CPU sleep mode"


@dataclass(frozen=True, kw_only=True)
class ServerSpec:
    """One server that is wanted: what every runtime needs to know and nothing more.

    Attributes:
        run_id: Names the run; found again on labels and in state files.
        cell: Names the cell; found again on labels and in state files.
        model: Path of a model folder, or a Hugging Face id.
        served_model_name: The name under which requests ask for the model.
        args: vLLM flags of the arm.  The runtime puts its own defaults beneath them (see
            :mod:`harness.servers.flags`) and adds model, host and port.
        env: Environment of the arm.  Wins over the runtime's defaults.
        files: Files and folders on this machine the server reads besides the model, such as
            adapters or a fault's source.  A container finds them read-only under the same path.
        log_path: The server's whole output is appended here, whatever happens.
        boot_deadline_s: Seconds until the server must be ready.
        needs_async: Whether it is called in ways that an ``LLM`` has no method for, or while requests run;
            a server can always be.
    """

    run_id: str
    cell: str
    model: str
    served_model_name: str
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    files: tuple[Path, ...] = ()
    log_path: Path
    boot_deadline_s: float
    needs_async: bool = field(default=False, compare=False)


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Memory of one server in bytes; None where it cannot be measured.

    Attributes:
        resident: Anonymous and shared memory of all the server's processes, each page counted
            once.  Pages of mapped files and the page cache are left out: the kernel drops
            them as it likes, so they say nothing about what the engine gave back.
        device: Memory in use on all GPUs of the server, other programs' share included.
        per_process: The ``resident`` share of each process as ``name:pid``; empty where
            the processes cannot be seen.
    """

    resident: int | None
    device: int | None
    per_process: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, kw_only=True)
class Activity:
    """What a server's processes do at a moment.

    Attributes:
        cpu_seconds: Processor time that all of them have used so far.
        wants_cpu: Whether any thread runs, waits for a core or for a disk, or was stopped from outside: then
            that it does nothing is not its own doing.
    """

    cpu_seconds: float
    wants_cpu: bool


@dataclass(frozen=True, kw_only=True)
class MachineTimes:
    """What the machine that a server runs on has computed so far, in seconds of one processor.

    Attributes:
        cores: Its processors.
        busy_seconds: All of them together, what other machines of the same host took away included.
        own_seconds: The harness.
        engine_seconds: The server's processes.
        throttled_seconds: For how long our control group was held back; None where it does not say.
    """

    cores: int
    busy_seconds: float
    own_seconds: float
    engine_seconds: float
    throttled_seconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class ServerFacts:
    """What a report says about a server.  Holds no secrets.

    Attributes:
        base_url: ``http://127.0.0.1:<port>``, without a trailing slash.
        command: The exact command, environment included, secrets replaced.
        identity: The process id or the container id; None when attached.
        image: The image reference as it was asked for.
        image_digest: The image's content address, a registry digest where it has one.
        emulated: What is not the real thing, such as ``"CPU sleep mode"``.
        shared_with: The cells it served before this one; empty for a fresh server.
    """

    runtime: RuntimeName
    engine: Engine
    base_url: str
    command: str | None = None
    identity: str | None = None
    image: str | None = None
    image_digest: str | None = None
    emulated: tuple[str, ...] = ()
    shared_with: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class KeptServer:
    """A server that was left running on request; ``stop`` is the command that ends it."""

    cell: str
    base_url: str
    stop: str


class Server(Protocol):
    """A server that has been ready once."""

    @property
    def facts(self) -> ServerFacts:
        """What a report says about it."""

    @property
    def base_url(self) -> str:
        """The same as ``facts.base_url``."""

    @property
    def access(self) -> Access:
        """What has to be shown to it by whoever calls it."""

    async def measure_memory(self) -> Memory:
        """Measure now.  Never raises for a server that is gone: its values are None then."""

    async def look_at_activity(self) -> Activity | None:
        """Look now whether its processes do anything; None where they cannot be seen."""

    async def look_at_machine(self) -> MachineTimes | None:
        """Look now how much its machine has computed, and for whom; None where that cannot be seen."""

    async def death(self) -> str | None:
        """None while it runs; afterwards why it is gone (exit code, signal, out of memory)."""

    def log_tail(self, lines: int = 40) -> str:
        """Return the end of its output; empty when attached."""


class BaseServer:
    """What is at hand of every server: what a report says about it, and how it is reached."""

    def __init__(self, facts: ServerFacts, access: Access = NOTHING_SPECIAL) -> None:
        self.facts = facts
        self.access = access

    @property
    def base_url(self) -> str:
        """Where it answers."""
        return self.facts.base_url


class StartsServers(Protocol):
    """Whatever can give a cell its server."""

    def start(self, spec: ServerSpec) -> AbstractAsyncContextManager[Server]:
        """Give a server: ready once entered, no longer the cell's once left."""


class Runtime(Protocol):
    """A way to bring servers into being and to be rid of them."""

    @property
    def name(self) -> RuntimeName:
        """Its name on the command line."""

    @property
    def engine(self) -> Engine:
        """What its servers compute on."""

    @property
    def can_restart(self) -> bool:
        """Whether leaving :meth:`start` and entering it again gives a fresh server."""

    @property
    def kept(self) -> Sequence[KeptServer]:
        """The servers it was asked to leave running, and has."""

    def check_available(self) -> None:
        """Return when this machine can run it.

        Raises:
            RuntimeUnavailableError: It cannot; says why and what to do.
        """

    def command(self, spec: ServerSpec) -> str:
        """Return the exact command for ``--dry-run``, secrets replaced; starts nothing."""

    def start(self, spec: ServerSpec) -> AbstractAsyncContextManager[Server]:
        """Start a server: ready once entered, stopped and gone once left, cancellation included.

        Raises:
            ServerBootError: On entering: it died or was not ready in time.
            InfrastructureError: On entering: the machine is in the way (image, engine, GPU, disk).
        """

    def sweep(self) -> list[str]:
        """Remove what earlier, dead harnesses left behind unasked; return one sentence for each thing."""

"""Runs one cell from server start to server end; whatever happens ends in its history."""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread
from pydantic import JsonValue

from harness.drive.conditions import each_concurrency
from harness.drive.needs import LORA_ENV, Needs, forcing_flags, lora_flags, needs_of
from harness.drive.recorder import Recorder, Watcher
from harness.drive.script import lacking, run_script
from harness.drive.session import OBSERVATION_DEADLINE_S, Session
from harness.errors import InfrastructureError, ServerError, ServerNotFreshError, StorageError
from harness.history.events import (
    CellFailed,
    CellFinished,
    CellStarted,
    CellUnavailable,
    Prompt,
    PromptsPrepared,
    ServerReady,
)
from harness.history.layout import HISTORY_FILE, SERVER_LOG
from harness.models.model import Model
from harness.models.variants import Variants, provide_variants, variants_of
from harness.redaction import is_secret_name, without_secret_flags
from harness.scenario.cells import Cell
from harness.scenario.corpus import CorpusPrompt
from harness.servers.base import Server, ServerFacts, ServerSpec, StartsServers
from harness.vllm_api import lifecycle
from harness.vllm_api.calls import CallResult
from harness.vllm_api.chat import user_message
from harness.vllm_api.connection import Connection, connect

EXCHANGED_ADAPTERS = "adapters"
"""Folder of a cell in which adapters are exchanged, as long as it runs."""

DEATH_POLL_S = 0.5
SERVER_INFO_DEADLINE_S = 60.0
"""/server_info collects the environment by running other programs: seconds, the first time."""


@dataclass(frozen=True, kw_only=True)
class CellJob:
    """One cell and everything outside the scenario that decides how it runs."""

    cell: Cell
    run_id: str
    directory: Path
    model: Model
    fault: str | None = None
    extra_args: tuple[str, ...] = ()

    @property
    def needs(self) -> Needs:
        """What its script needs besides the model."""
        return needs_of(self.cell.scenario.script)

    @property
    def variants(self) -> Variants:
        """Where that is."""
        return variants_of(self.model, exchanged=self.directory.absolute() / EXCHANGED_ADAPTERS)

    @property
    def spec(self) -> ServerSpec:
        """The server the cell wants."""
        needs, variants = self.needs, self.variants
        chosen = (*self.extra_args, *self.cell.arm.args)
        fault_file = Path(self.fault.rpartition(":")[0]) if self.fault and ".py:" in self.fault else None
        fault_env = {"SLEEPWAKE_FAULT": self.fault} if self.fault else {}
        adapters = [*variants.adapters.values(), variants.exchanged] if needs.adapters else []
        other_weights = variants.other_weights if needs.other_weights else None
        files = [path for path in (self.model.folder, fault_file, other_weights) if path is not None]
        return ServerSpec(
            run_id=self.run_id,
            cell=self.cell.id,
            model=self.model.location,
            served_model_name=self.model.served_name,
            args=(
                *(lora_flags(chosen) if needs.adapters else ()),
                *forcing_flags(self.cell.scenario, chosen),
                *map(self._filled_in, chosen),
            ),
            env={**(LORA_ENV if needs.adapters else {}), **self.cell.arm.env, **fault_env},
            files=(*files, *adapters),
            log_path=self.directory / SERVER_LOG,
            boot_deadline_s=self.cell.scenario.deadlines.boot,
        )

    @property
    def scratch(self) -> Path:
        """A folder the server may fill while the cell runs; a container makes its own under this path."""
        return self.directory.absolute() / "scratch"

    def _filled_in(self, word: str) -> str:
        return word.replace("$MODEL", self.model.location).replace("$SCRATCH", str(self.scratch))


LooksAt = Callable[[Path], bool]
"""Looks at what is recorded so far of the cell in a folder."""


@dataclass(frozen=True, kw_only=True)
class EarlyLooks:
    """What a cell may leave out, judged from what is recorded of it so far."""

    is_decided: LooksAt = lambda _: False
    """Whether the verdict is certain: then further cycles of a repetition are left out."""
    knows_noise: LooksAt = lambda _: True
    """Whether it is known how much answers differ by themselves: then further null passes are left out."""
    require_as_fresh: Callable[[Path], None] = lambda _: None
    """Raises :class:`ServerNotFreshError` where the server, asked before anything is done to it, does not
    answer as when it was fresh."""


async def run_cell(
    job: CellJob, runtime: StartsServers, *, watcher: Watcher, looks: EarlyLooks | None = None
) -> None:
    """Run one cell.  What the machine does wrong becomes a ``cell_failed`` event, not an exception.

    Raises:
        StorageError: the history cannot be written; what was written stays readable.
        ServerNotFreshError: the server that it shares is not as it was; the cell has to begin again.
    """
    recorder = Recorder(job.directory / HISTORY_FILE, watcher=watcher)
    async with ended_in_order(recorder):
        recorder.record(cell_started(job, recorder))
        await run_on_server(
            job, runtime, recorder, partial(_follow_script, job.directory, looks or EarlyLooks())
        )


async def _follow_script(directory: Path, looks: EarlyLooks, session: Session) -> None:
    session.knows_noise = lambda: looks.knows_noise(directory)
    await run_script(
        session,
        is_decided=lambda: looks.is_decided(directory),
        require_as_fresh=lambda: looks.require_as_fresh(directory),
    )


@asynccontextmanager
async def ended_in_order(recorder: Recorder) -> AsyncIterator[None]:
    """Record how a cell ends and close its history; infrastructure errors end here."""
    try:
        yield
        recorder.record(CellFinished(t=recorder.now()))
    except StorageError:
        raise
    except ServerNotFreshError as error:
        recorder.record(_cell_failed(error, recorder).model_copy(update={"again": True}))
        raise
    except InfrastructureError as error:
        recorder.record(_cell_failed(error, recorder))
    except anyio.get_cancelled_exc_class():
        recorder.record(
            CellFailed(
                t=recorder.now(),
                error="InterruptedRunError",
                cause="the run was interrupted",
                remedy="run it again; what was recorded so far is kept",
                interrupted=True,
            )
        )
        raise
    finally:
        recorder.close()


async def run_on_server(
    job: CellJob, runtime: StartsServers, recorder: Recorder, body: Callable[[Session], Awaitable[None]]
) -> None:
    """Start the cell's server, prepare its prompts, and let ``body`` do the rest while the server lives.

    Where the release lacks what the script needs, that is recorded and ``body`` is not called.

    Raises:
        InfrastructureError: the machine got in the way.
    """
    await anyio.to_thread.run_sync(_provide_variants, job)
    asked_at = recorder.now()
    async with (
        _emptied(job.scratch),
        _emptied(job.variants.exchanged),
        runtime.start(job.spec) as server,
    ):
        boot_seconds = 0.0 if server.facts.shared_with else recorder.now() - asked_at
        async with connect(server.base_url) as connection:
            info = await lifecycle.server_info(connection.http, deadline_s=SERVER_INFO_DEADLINE_S)
            configuration = _told(info, "vllm_config")
            ready = await _server_ready(server, connection, recorder, boot_seconds, info)
            recorder.record(ready)
            session = Session(
                scenario=job.cell.scenario,
                server=server,
                connection=connection,
                recorder=recorder,
                served_model_name=job.model.served_name or await _served_model(connection),
                variants=job.variants,
                vllm_version=ready.vllm_version,
                caches_prompts=_caches_prompts(configuration),
            )
            if (missing := lacking(session)) and session.vllm_version:
                recorder.record(
                    CellUnavailable(
                        t=recorder.now(), lacking=tuple(missing), vllm_version=session.vllm_version
                    )
                )
                return

            async def prepared() -> None:
                await _prepare_prompts(session, job, configuration)
                async with session.in_flight.allowed():
                    await body(session)

            await _while_alive(session, prepared)


@asynccontextmanager
async def _emptied(folder: Path) -> AsyncIterator[None]:
    """Remove a folder that goes with a server, once it has ended."""
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _provide_variants(job: CellJob) -> None:
    needs = job.needs
    provide_variants(job.model, adapters=needs.adapters, other_weights=needs.other_weights)
    if needs.adapters:
        job.variants.exchanged.mkdir(parents=True, exist_ok=True)


async def _while_alive(session: Session, body: Callable[[], Awaitable[None]]) -> None:
    """Stop ``body`` at once, with the reason, when the server is gone."""

    async def watch() -> None:
        while True:
            await session.require_alive()
            await anyio.sleep(DEATH_POLL_S)

    try:
        async with anyio.create_task_group() as group:
            group.start_soon(watch)
            await body()
            group.cancel_scope.cancel()
    except* InfrastructureError as errors:
        raise _first(errors) from None


def _first(errors: BaseExceptionGroup[InfrastructureError]) -> InfrastructureError:
    """One error out of those that concurrent tasks raised together, which share a cause."""
    for error in errors.exceptions:
        return _first(error) if isinstance(error, BaseExceptionGroup) else error
    raise AssertionError("an exception group is never empty")


def cell_started(job: CellJob, recorder: Recorder) -> CellStarted:
    """The first event of a cell's history."""
    scenario = job.cell.scenario
    return CellStarted(
        t=recorder.now(),
        run=job.run_id,
        cell=job.cell.id,
        scenario=scenario.name,
        why=scenario.why,
        sources=scenario.sources,
        arm=job.cell.arm_name,
        arm_args=tuple(without_secret_flags((*job.extra_args, *job.cell.arm.args))),
        arm_env={name: "***" if is_secret_name(name) else value for name, value in job.cell.arm.env.items()},
        script=tuple(step.model_dump(mode="json") for step in scenario.script),
        max_tokens=scenario.sampling.max_tokens,
        temperature=scenario.sampling.temperature,
        concurrency=each_concurrency(scenario.concurrency)[0],
        fault=job.fault,
        started_at=datetime.now().astimezone().isoformat(timespec="seconds"),
    )


def _cell_failed(error: InfrastructureError, recorder: Recorder) -> CellFailed:
    return CellFailed(
        t=recorder.now(),
        error=type(error).__name__,
        cause=error.cause,
        remedy=error.remedy,
        log_tail=error.log_tail if isinstance(error, ServerError) else "",
    )


async def _server_ready(
    server: Server,
    connection: Connection,
    recorder: Recorder,
    boot_seconds: float,
    info: CallResult,
) -> ServerReady:
    version = await lifecycle.version(connection.http, deadline_s=OBSERVATION_DEADLINE_S)
    told = version.field("version")
    facts = server.facts
    return ServerReady(
        t=recorder.now(),
        runtime=facts.runtime,
        command=_command(facts),
        vllm_version=told if isinstance(told, str) else None,
        image=facts.image,
        image_digest=facts.image_digest,
        boot_seconds=boot_seconds,
        emulated=facts.emulated,
        configuration=_told(info, "vllm_config"),
        environment=_told(info, "system_env"),
        shared_with=facts.shared_with,
    )


def _command(facts: ServerFacts) -> str:
    command = facts.command or ""
    return f"{command}  # shared with {', '.join(facts.shared_with)}" if facts.shared_with else command


async def _served_model(connection: Connection) -> str:
    """The name an attached server gives its model."""
    listed = (await lifecycle.models(connection.http, deadline_s=OBSERVATION_DEADLINE_S)).field("data")
    names = [each.get("id") for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []
    name = next((each for each in names if isinstance(each, str)), None)
    if name is None:
        raise ServerError("the server names no model at /v1/models", remedy="name it with --model")
    return name


def _told(info: CallResult, part: str) -> dict[str, JsonValue]:
    """A part of what the server says of itself; empty where the version cannot say it as JSON."""
    told = info.field(part)
    return told if isinstance(told, dict) else {}


async def _prepare_prompts(session: Session, job: CellJob, configuration: Mapping[str, JsonValue]) -> None:
    """Let the server's own tokenizer and chat template make token ids of the prompts, once."""
    prompts = [
        Prompt(
            id=prompt.id,
            text=prompt.text,
            token_ids=await _token_ids(session, prompt),
            picture=prompt.picture,
            held_out=prompt in job.cell.held_out,
        )
        for prompt in (*job.cell.prompts, *job.cell.held_out)
    ]
    session.prompts = tuple(prompts)
    model = _model_configuration(job.model.folder)
    cache = configuration.get("cache_config")
    session.recorder.record(
        PromptsPrepared(
            t=session.recorder.now(),
            prompts=session.prompts,
            end_of_sequence_ids=_whole_numbers(model.get("eos_token_id")),
            vocabulary_size=next(iter(_whole_numbers(model.get("vocab_size"))), None),
            block_size=next(iter(_whole_numbers(cache.get("block_size"))), None)
            if isinstance(cache, dict)
            else None,
        )
    )


async def _token_ids(session: Session, prompt: CorpusPrompt) -> tuple[int, ...]:
    result = await lifecycle.tokenize_chat(
        session.connection.http,
        [user_message(prompt.text, picture=prompt.picture)],
        model=session.served_model_name,
        deadline_s=OBSERVATION_DEADLINE_S,
    )
    ids = _whole_numbers(result.field("tokens"))
    if not ids:
        reason = result.error.message if result.error else "no tokens in the answer"
        raise ServerError(
            f"the server could not tokenize the prompt {prompt.id}: {reason}",
            log_tail=session.server.log_tail(),
            remedy="the model must read pictures: name one that does with --model"
            if prompt.picture
            else "the model needs a tokenizer with a chat template",
        )
    return ids


def _caches_prompts(configuration: Mapping[str, JsonValue]) -> bool:
    """Whether the engine may keep what it computed of a prompt, in its own memory or by a connector."""
    cache = configuration.get("cache_config")
    is_off = isinstance(cache, dict) and cache.get("enable_prefix_caching") is False
    return not is_off or bool(configuration.get("kv_transfer_config"))


def _model_configuration(folder: Path | None) -> Mapping[str, JsonValue]:
    """The model's own configuration, where the model is a folder on this machine."""
    if folder is None:
        return {}
    configuration: dict[str, JsonValue] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    of_text = configuration.get("text_config")  # of a model that reads more than text
    return {**of_text, **configuration} if isinstance(of_text, dict) else configuration


def _whole_numbers(value: JsonValue) -> tuple[int, ...]:
    values = value if isinstance(value, list) else [value]
    return tuple(each for each in values if isinstance(each, int))

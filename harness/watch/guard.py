"""The watch itself: looks, notices, asks, judges, and says what came of it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeAlias

import anyio
import anyio.to_thread

from harness.check import judge
from harness.check.evidence import Evidence
from harness.check.noise.budget import budget_of_check
from harness.check.result import CellResult, Verdict
from harness.drive.cell import cell_started
from harness.drive.introduction import caches_prompts
from harness.drive.job import CellJob
from harness.drive.recorder import Recorder
from harness.drive.session import Session
from harness.errors import (
    RuntimeUnavailableError,
    ServerError,
    UsageError,
)
from harness.history.events import Event
from harness.history.layout import BASELINE_FOLDER, HISTORY_FILE, cell_folder
from harness.history.passes import Answer
from harness.history.recording import load_recording
from harness.report.text import count
from harness.servers.base import Server
from harness.vllm_api.connection import Connection
from harness.watch.asking import Met, check, meet, new_session, take_baseline, with_baseline_of
from harness.watch.canaries import Canaries
from harness.watch.eye import Eye, Tell
from harness.watch.noticing import NOTHING, Happening
from harness.watch.options import WatchOptions
from harness.watch.record import EarlierBaseline, WatchRecord, fitting_baseline
from harness.watch.spending import Spending
from harness.watch.status import Status, outcome_of

Judged: TypeAlias = Callable[[CellResult, Happening], None]
"""Is shown every judgement, and of what."""

ASKED_AGAIN = 2
"""How often, at the most, a check follows one that could not tell; each spends its own error rate."""


@dataclass(kw_only=True, eq=False)
class Guard:
    """One server under watch.

    Attributes:
        options: What is asked for.
        record: The run directory.
        canaries: What is asked.
        server: The server,
        connection: and the way to it.
        status: What others may read of the watch.
        tell: Is told every sentence.
        judged: Is shown every judgement.
    """

    options: WatchOptions
    record: WatchRecord
    canaries: Canaries
    server: Server
    connection: Connection
    status: Status
    tell: Tell
    judged: Judged = lambda *_: None
    _asked_about: Happening = NOTHING
    _again: int = 0
    """What was checked last, and how often it was checked once more."""
    _said: str = ""
    """Why a check has to wait, as it was last told."""
    _session: Session | None = None
    _met: Met | None = None
    _recorder: Recorder | None = None
    """Of the baseline that counts, or that is being taken."""

    def __post_init__(self) -> None:
        self.eye = Eye(
            connection=self.connection,
            every_s=self.options.every_s,
            status=self.status,
            record=self.record,
            tell=self.tell,
        )
        self._spending = Spending(
            most_tokens_per_hour=self.options.most_tokens_per_hour,
            at_most_every_s=self.options.at_most_every_s,
        )

    async def watch(self, *, earlier: EarlierBaseline | None) -> CellResult:
        """Watch for ever; with ``once``, until one check has come to a judgement, which is returned.

        Raises:
            InfrastructureError: the server cannot be watched.
            StorageError: what is seen cannot be recorded.
        """
        try:
            await self._begin(earlier)
            return await self._go_on()
        finally:
            if self._recorder is not None:
                self._recorder.close()

    async def _go_on(self) -> CellResult:
        while True:
            await self.eye.look()
            if self.status.pending and self._may_ask():
                result = await self._handle(self.status.pending)
                if result is not None and self.options.once and not self.status.pending:
                    return result
            await anyio.sleep(self.options.every_s)

    async def _begin(self, earlier: EarlierBaseline | None) -> None:
        """Look until it tells its state; then have a baseline."""
        await self.eye.look()
        while not self.status.answers:
            await anyio.sleep(self.options.every_s)
            await self.eye.look()
        if not self.eye.seen.tells_state:
            raise RuntimeUnavailableError(
                f"{self.connection.base_url} does not tell whether it sleeps, neither at /is_sleeping nor at "
                "/metrics",
                remedy="start it with VLLM_SERVER_DEV_MODE=1, or leave out --disable-log-stats",
            )
        self.status.pending = NOTHING
        await self._open(earlier)

    async def _open(self, earlier: EarlierBaseline | None) -> None:
        """Have a baseline: an earlier one that fits, or else a new one."""
        met = await meet(self.server, self.connection)
        self.record.note(model=met.model)
        found = earlier or fitting_baseline(
            self.record.directory.parent,
            endpoint=self.connection.base_url,
            model=met.model,
            started=self.eye.seen.started,
            weight_version=self.eye.seen.weight_version,
        )
        if found is None:
            await self._rebaseline(met)
        else:
            self._take_up(found, met)
        least = self._tokens_of_a_check
        if self.options.most_tokens_per_hour is not None and self.options.most_tokens_per_hour < least:
            raise UsageError(
                f"--max-tokens-per-hour: one check may take {least} tokens",
                remedy=f"allow {least} or more, or ask less with --prompts and --max-tokens",
            )

    def _take_up(self, earlier: EarlierBaseline, met: Met) -> None:
        """Go on with the baseline of another watch; the server is held against it at once."""
        if earlier.watched.model != met.model:
            raise UsageError(
                f"{earlier.history}: is a baseline of {earlier.watched.model}, but "
                f"{self.connection.base_url} serves {met.model}",
                remedy="leave out --baseline",
            )
        job = self._job_of_baseline()
        self._recorder = Recorder.taken_up(
            earlier.history,
            job.directory / HISTORY_FILE,
            begin=load_recording(earlier.history.parent).cell,
            watcher=self._spend_once,
        )
        session = new_session(met, self.server, self.connection, self._recorder, job)
        self._session = with_baseline_of(session, load_recording(job.directory))
        self._met = met
        self._keep_baseline(earlier.watched.baseline_wake_ups)
        self.tell(f"baseline taken over from {earlier.history}: {self._noise()}")
        self.eye.take_in(Happening(taken_up=True))

    async def _rebaseline(self, met: Met) -> None:
        """Ask the canaries as often as it takes to know the noise; begin again whenever something happens."""
        job = self._job_of_baseline()
        while True:
            await self._until_it_may_be_asked()
            self.status.pending = NOTHING
            began, spent = anyio.current_time(), self.status.tokens
            if self._recorder is not None:
                self._recorder.close()
            recorder = self._recorder = Recorder(job.directory / HISTORY_FILE, watcher=self._spend_once)
            recorder.record(cell_started(job, recorder))
            session = new_session(met, self.server, self.connection, recorder, job)
            if await self.eye.undisturbed(partial(take_baseline, session, job, met)):
                break
            shutil.rmtree(job.directory)
            self.status.given_up += 1
            self.tell(f"the baseline was given up: {self.eye.why_given_up}")
        took = anyio.current_time() - began
        self._session, self._met = session, met
        self.status.seconds += took
        self._keep_baseline(self.eye.seen.wake_ups)
        self.tell(
            f"baseline of {count(self.canaries.count, 'prompt')} taken in {took:.1f} s for "
            f"{count(self.status.tokens - spent, 'token')}: {self._noise()}"
        )
        if self.eye.seen.wake_ups:
            self.tell(
                f"the engine had been woken {count(self.eye.seen.wake_ups, 'time')} before: what was wrong "
                "with it by then is part of the baseline"
            )

    def _keep_baseline(self, wake_ups: int | None) -> None:
        """From now on wake-ups are held against the baseline of the session."""
        self.record.note(
            baselines=self.record.watched.baselines + 1,
            baseline_wake_ups=wake_ups,
            started=self.eye.seen.started,
            weight_version=self.eye.seen.weight_version,
        )
        self.status.has_baseline, self.status.last, self._again = True, None, 0
        floor = Evidence(load_recording(self.record.baseline)).floor
        self.status.noise_nat = floor.largest_logprob_shift if floor else None

    def _noise(self) -> str:
        shift = self.status.noise_nat
        return (
            f"answers differ by up to {shift:.2g} nat when nothing happens"
            if shift
            else "answers do not differ when nothing happens"
        )

    async def _until_it_may_be_asked(self) -> None:
        while await self.eye.look():  # noqa: ASYNC110 - nobody tells when it is awake
            await anyio.sleep(self.options.every_s)

    def _may_ask(self) -> bool:
        """Whether a check may begin now; says once why not."""
        if self.status.rests or not self.status.answers:
            return False
        waits = self._spending.waits_for(self._tokens_of_a_check, now=anyio.current_time())
        reason = waits.partition(" ")[0] if waits else ""
        if waits and reason != self._said:
            self.tell(f"{self.status.pending.words}: not checked yet: {waits}")
        self._said = reason
        return waits is None

    @property
    def _tokens_of_a_check(self) -> int:
        """At the most: each prompt is asked twice."""
        session, _ = self._opened()
        asked = [prompt for prompt in session.prompts if not prompt.held_out]
        return 2 * sum(len(prompt.token_ids) + self.canaries.max_tokens for prompt in asked)

    async def _handle(self, happened: Happening) -> CellResult | None:
        """Judge what happened, or take a new baseline where the user's rule says so."""
        session, met = self._opened()
        if happened.restarted:
            self.eye.meets_another()
            try:
                met = await meet(self.server, self.connection)
            except ServerError:
                return None  # it is not ready yet: what happened is still to be judged
            self._require_same_model(session, met)
        if happened.weights is not None and self.options.rebaseline == "on-weight-update":
            self.tell(f"{happened.words}: a new baseline is taken, and what answered until now is not judged")
            self.status.has_baseline = False
            await self._rebaseline(met)
            return None
        if happened.restarted:
            self._met = met
            self._session = replace(
                session,
                vllm_version=met.ready.vllm_version,
                caches_prompts=caches_prompts(met.ready),
            )
        return await self._check(happened)

    def _require_same_model(self, session: Session, met: Met) -> None:
        if met.model != session.served_model_name:
            raise RuntimeUnavailableError(
                f"{self.connection.base_url} serves {met.model} now, and served {session.served_model_name} "
                "before",
                remedy="begin another watch",
            )

    async def _check(self, happened: Happening) -> CellResult | None:
        """Ask the canaries and judge; None where something came in between."""
        session, met = self._opened()
        if happened != self._asked_about:
            self._asked_about, self._again = happened, 0
        number = self.record.watched.checks + 1
        job = self._job(f"{happened.kind}-{number:06}")
        began, spent = anyio.current_time(), self.status.tokens
        self._spending.checked(now=began)

        async def is_not_clean() -> bool:
            return (await self._judge(job, number, finished=True)).verdict is not Verdict.CLEAN

        asked = partial(
            check, session, happened, job=job, watcher=self._spend, calls_for_controls=is_not_clean
        )
        undisturbed = await self.eye.undisturbed(asked)
        result = await self._judge(job, number) if undisturbed else None
        if result is not None and result.verdict is not Verdict.CLEAN:
            # What an engine that falls asleep does to requests comes before it says that it sleeps.
            await anyio.sleep(self.options.every_s)
            result = None if await self.eye.look() else result
        took = anyio.current_time() - began
        self.status.seconds += took
        if result is None or result.error is not None:
            shutil.rmtree(job.directory, ignore_errors=True)
            self.status.given_up += 1
            because = self.eye.why_given_up if result is None else result.reason
            self.tell(f"{happened.words}: the check was given up: {because}")
            return None
        self.record.add_check(job.cell, met.ready, number=number, is_sound=result.verdict is Verdict.CLEAN)
        self._conclude(result, happened)
        costs = f"{took:.1f} s, {count(self.status.tokens - spent, 'token')}"
        self.tell(f"{happened.words}: {_said_of(result)} ({costs})")
        self.judged(result, happened)
        return result

    def _conclude(self, result: CellResult, happened: Happening) -> None:
        self.status.judged(result, now=time.time())
        self.status.without_own_check += max(0, happened.wake_ups - 1) if not self._again else 0
        if result.verdict is Verdict.INCONCLUSIVE and self._again < ASKED_AGAIN:
            self._again += 1
            return
        self._again = 0
        self.status.pending = NOTHING

    async def _judge(self, job: CellJob, number: int, *, finished: bool = False) -> CellResult:
        """Judge what is recorded; ``finished``: as if nothing more were to come."""

        def read_and_judge() -> CellResult:
            recording = load_recording(job.directory)
            recording = replace(recording, finished=recording.finished or finished)
            return judge(recording, budget=budget_of_check(number))

        return await anyio.to_thread.run_sync(read_and_judge)

    def _spend(self, event: Event) -> None:
        """Count what an answer of a check took."""
        if tokens := _tokens_of(event):
            self.status.tokens += tokens
            self._spending.spend(tokens, now=anyio.current_time())

    def _spend_once(self, event: Event) -> None:
        """Count what an answer of a baseline took, beside what checks may take in an hour."""
        self.status.tokens += _tokens_of(event)

    def _opened(self) -> tuple[Session, Met]:
        assert self._session is not None  # noqa: S101 - ``_open`` comes first
        assert self._met is not None  # noqa: S101 - as before
        return self._session, self._met

    def _job(self, name: str) -> CellJob:
        run = self.record.directory
        folder = cell_folder(run, self.canaries.cell(name).id)
        return self.canaries.job(name, run_id=run.name, directory=folder)

    def _job_of_baseline(self) -> CellJob:
        """The next one's."""
        run = self.record.directory
        name = BASELINE_FOLDER.format(number=self.record.watched.baselines + 1)
        return self.canaries.job(name, run_id=run.name, directory=run / name)


def _tokens_of(event: Event) -> int:
    """What an answer took: its prompt's tokens and its own."""
    if not isinstance(event, Answer):
        return 0
    return (event.prompt_tokens or 0) + (event.completion_tokens or 0)


def _said_of(result: CellResult) -> str:
    """A judgement in a line."""
    if result.verdict is Verdict.CLEAN:
        return "sound"
    cause = f" ({result.cause.value})" if result.cause else ""
    return f"{outcome_of(result).upper()}{cause}: {result.reason}; recorded in {result.cell}"

"""An engine that is a table: it answers each path as it is told to, by default as a healthy one would."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, cast

import httpx
import numpy as np
import pytest

from harness.drive.recorder import Recorder
from harness.drive.session import Session
from harness.history.events import Event
from harness.history.passes import Prompt
from harness.models.variants import Variants
from harness.reaching import NOTHING_SPECIAL, Access
from harness.scenario.engine_state import EngineState
from harness.scenario.schema import Scenario
from harness.servers.base import Activity, Memory, ServerFacts
from harness.vllm_api.connection import Connection
from harness.vllm_api.generation import Generation, GenerationRequest

if TYPE_CHECKING:
    import openai

BASE_URL = "http://scripted.test"
NEVER_ASKED = cast("openai.AsyncOpenAI", object())
"""What asks for tokens is replaced; to make a client for each test takes longer than most of them."""

PROMPTS = tuple(Prompt(id=f"p{n}", text=f"prompt {n}", token_ids=(n, 7, 8)) for n in range(1, 4))
UNSEEN = Prompt(id="unseen", text="unseen", token_ids=(9, 7, 8), held_out=True)

Handler = Callable[[httpx.Request], httpx.Response]


def answer(*tokens: int) -> Generation:
    """An answer of these tokens."""
    return Generation(
        seconds=0.1,
        token_ids=tokens,
        finish_reason="length",
        chosen_logprobs=np.zeros(len(tokens), np.float32),
        top_ids=np.zeros((len(tokens), 1), np.int32),
        top_logprobs=np.zeros((len(tokens), 1), np.float32),
    )


@dataclass
class ScriptedEngine:
    """What it is like, what it was asked, and where it does not answer as a healthy one."""

    state: EngineState = field(default_factory=EngineState)
    told: dict[str, Handler] = field(default_factory=dict)
    """By path, instead of what a healthy engine would do."""
    calls: list[str] = field(default_factory=list)
    """What changes it, in order, as ``/sleep?level=1``."""
    requests: list[GenerationRequest] = field(default_factory=list)
    answer: Callable[[GenerationRequest], Generation] = lambda request: answer(*request.prompt_token_ids)
    dead: str | None = None

    def refuse(self, path: str, status: int = 500) -> None:
        """Answer one path with an error from now on."""
        self.told[path] = lambda _: httpx.Response(status, json={"error": {"message": "refused"}})

    def handle(self, request: httpx.Request) -> httpx.Response:
        """Answer one call."""
        path = request.url.path
        looks = path in {"/detokenize", "/weight_checker"} or b"checksums_of_buffers" in request.content
        if request.method == "POST" and not looks:
            self.calls.append(request.url.raw_path.decode())
        if told := self.told.get(path):
            return told(request)
        if path == "/metrics":
            (gauge, *_) = sorted(self.state.gauges) or ["awake"]
            return httpx.Response(200, text=f'vllm:engine_sleep_state{{sleep_state="{gauge}"}} 1.0\n')
        return httpx.Response(200, json=self._healthy(path, request.url.params))

    def _healthy(self, path: str, params: httpx.QueryParams) -> dict[str, object]:
        match path:
            case "/sleep":
                self.state = self.state.after_sleep(int(params["level"]))
            case "/wake_up":
                self.state = self.state.after_wake_up(params.get_list("tags"))
            case "/is_sleeping":
                return {"is_sleeping": bool(self.state.asleep)}
            case "/is_paused":
                return {"is_paused": self.state.paused}
            case "/weight_checker":
                return {"checksums": {"w": "same"}}
            case _:
                pass
        return {}

    async def generate(self, _: object, request: GenerationRequest) -> Generation:
        """What :func:`harness.vllm_api.generation.generate` would."""
        self.requests.append(request)
        return self.answer(request)

    @property
    def facts(self) -> ServerFacts:
        """As every server has them."""
        return ServerFacts(runtime="process", engine="cpu", base_url=BASE_URL)

    @property
    def access(self) -> Access:
        """Nothing: it is ours."""
        return NOTHING_SPECIAL

    @property
    def base_url(self) -> str:
        """As every server has one."""
        return BASE_URL

    async def measure_memory(self) -> Memory:
        """It takes none."""
        return Memory(resident=None, device=None)

    async def look_at_activity(self) -> Activity:
        """It has no processes."""
        return Activity(cpu_seconds=0.0, wants_cpu=False)

    async def look_at_machine(self) -> None:
        """Nor is its machine seen."""

    async def death(self) -> str | None:
        """Why it is gone, where it is."""
        return self.dead

    def log_tail(self, lines: int = 40) -> str:  # noqa: ARG002 - it logs nothing
        """Nothing."""
        return ""


@dataclass(frozen=True)
class Stage:
    """A session on a scripted engine, and what it records."""

    session: Session
    engine: ScriptedEngine
    events: list[Event]


@asynccontextmanager
async def stage(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    vllm_version: str | None = None,
    prompts: tuple[Prompt, ...] = (*PROMPTS, UNSEEN),
    **scenario: object,
) -> AsyncIterator[Stage]:
    """A session that has done nothing yet; its script does not matter."""
    engine, events = ScriptedEngine(), list[Event]()
    monkeypatch.setattr("harness.drive.probing.generate", engine.generate)
    tree: dict[str, object] = {
        "name": "n",
        "why": "w",
        "arms": {"a": {}},
        "prompts": {"corpus": "c"},
        "script": [{"probe": "b"}],
    }
    recorder = Recorder(folder / "history.jsonl", watcher=events.append)
    client = httpx.AsyncClient(base_url=BASE_URL, transport=httpx.MockTransport(engine.handle))
    session = Session(
        scenario=Scenario.model_validate({**tree, **scenario}),
        server=engine,
        connection=Connection(base_url=BASE_URL, http=client, openai=NEVER_ASKED),
        recorder=recorder,
        served_model_name="model",
        variants=Variants(own_weights="/own", adapters={"first": folder}, exchanged=folder / "exchanged"),
        vllm_version=vllm_version,
        prompts=prompts,
        step="1",
    )
    async with client:
        try:
            yield Stage(session, engine, events)
        finally:
            recorder.close()

"""A real engine for tests: booted once, asked over HTTP."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from anyio.from_thread import BlockingPortal, start_blocking_portal

from harness.models.model import provide_model
from harness.scenario.corpus import load_corpus
from harness.servers.base import Server, ServerSpec
from harness.servers.process.runtime import ProcessRuntime

MODEL = "model"
MIB = 1 << 20
DEADLINE_S = 60.0  # the first request of an engine takes up to half a minute

CORPORA = Path(__file__).parents[2] / "scenarios" / "corpora"
PROMPTS = [prompt.text for prompt in load_corpus("paragraphs", folders=[CORPORA], location=__file__)[:6]]


@dataclass(frozen=True)
class Answer:
    """What came back: exact in float32, so that two may be compared with ``==``."""

    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]
    finish_reason: str


@dataclass(frozen=True)
class Engine:
    """A server, and what tests say to it."""

    server: Server
    portal: BlockingPortal
    http: httpx.Client

    def post(self, path: str, body: object = None, *, timeout_s: float = DEADLINE_S) -> Any:
        """Call an endpoint that must succeed; returns what it answers."""
        response = self.http.post(path, json=body, timeout=timeout_s)
        response.raise_for_status()
        return response.json()

    def get(self, path: str) -> Any:
        """Read an endpoint."""
        return self.http.get(path).raise_for_status().json()

    def metric(self, name: str) -> float:
        """The value of one line of ``/metrics``, whose name and labels contain ``name``."""
        lines = self.http.get("/metrics").text.splitlines()
        (line,) = [line for line in lines if name in line and not line.startswith("#")]
        return float(line.rpartition(" ")[2])

    def ask(
        self,
        prompt: str,
        *,
        model: str = MODEL,
        tokens: int = 48,
        timeout_s: float = DEADLINE_S,
        **fields: object,
    ) -> tuple[Answer, int]:
        """Ask for a greedy answer; returns it and how many tokens of the prompt came out of the cache."""
        request = {
            "model": model,
            "messages": [{"role": "user", "content": prompt}],
            "temperature": 0,
            "max_tokens": tokens,
            "logprobs": True,
            "return_token_ids": True,
            **fields,
        }
        answer = self.post("/v1/chat/completions", request, timeout_s=timeout_s)
        choice = answer["choices"][0]
        logprobs = tuple(token["logprob"] for token in choice["logprobs"]["content"])
        cached = answer["usage"]["prompt_tokens_details"]["cached_tokens"]
        return Answer(tuple(choice["token_ids"]), logprobs, choice["finish_reason"]), cached

    def try_to_ask(self, prompt: str, *, seconds: float = 60) -> tuple[int | None, Answer | None]:
        """The status of a request, None when it was not answered in time; and the answer if there is one."""
        try:
            return 200, self.ask(prompt, timeout_s=seconds)[0]
        except httpx.HTTPStatusError as error:
            return error.response.status_code, None
        except httpx.ReadTimeout:
            return None, None

    def answers(self, **fields: Any) -> list[Answer]:
        """The answers to all prompts, asked one at a time."""
        return [self.ask(prompt, **fields)[0] for prompt in PROMPTS]

    def answers_at_once(self, **fields: Any) -> list[Answer]:
        """The answers to all prompts, asked together."""
        with ThreadPoolExecutor(len(PROMPTS)) as pool:
            return list(pool.map(lambda prompt: self.ask(prompt, **fields)[0], PROMPTS))

    def checksums(self) -> dict[str, str]:
        """SHA-256 of every parameter."""
        checksums: dict[str, str] = self.post("/weight_checker", {"action": "checksum"})["checksums"]
        return checksums

    def resident(self) -> int:
        """Memory of all the engine's processes, in MiB."""
        resident = self.portal.call(self.server.measure_memory).resident
        assert resident is not None
        return resident // MIB

    def sleep(self, level: int) -> None:
        """Put it to sleep."""
        self.post(f"/sleep?level={level}")

    def wake_up(self, *tags: str) -> None:
        """Wake up ``tags``, or everything."""
        self.http.post("/wake_up", params={"tags": tags}).raise_for_status()

    def reload_weights(self) -> None:
        """Load the weights again."""
        self.post("/collective_rpc", {"method": "reload_weights"})

    def cycle(self, level: int) -> None:
        """Sleep and wake up."""
        self.sleep(level)
        self.recover(level)

    def recover(self, level: int) -> None:
        """Wake up from ``level`` as the documentation says, reload included."""
        if level != 2:
            self.wake_up()
            return
        self.wake_up("weights")
        self.reload_weights()
        self.wake_up("kv_cache")


@contextmanager
def running_engine(log: Path, *args: str, env: Mapping[str, str] | None = None) -> Iterator[Engine]:
    """Boot vLLM with the CPU sleep mode; it is gone afterwards."""
    model = provide_model(dtype="float32")
    spec = ServerSpec(
        run_id="tests",
        cell="engine_plugin",
        model=model.location,
        served_model_name=MODEL,
        args=args,
        env=env or {},
        log_path=log,
        boot_deadline_s=300,
    )
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(ProcessRuntime().start(spec)) as server,
        httpx.Client(base_url=server.base_url, timeout=DEADLINE_S) as http,
    ):
        yield Engine(server, portal, http)

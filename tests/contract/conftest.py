"""The servers that are held to the contract, and what its tests ask of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from anyio.from_thread import start_blocking_portal
from pydantic import JsonValue

from harness.drive.needs import LORA_ENV, TRANSFER_ENV, lora_flags, transfer_flags
from harness.models.model import provide_model
from harness.models.variants import ADAPTERS, AdapterName, Variants, provide_variants, variants_of
from harness.scenario.corpus import load_corpus
from harness.servers.base import ServerSpec
from harness.servers.process.runtime import ProcessRuntime
from harness.vllm_api import lifecycle
from harness.vllm_api.calls import CallResult
from harness.vllm_api.connection import Connection, connect
from harness.vllm_api.generation import Generation, GenerationRequest, generate
from harness.vllm_api.metrics import MetricsSnapshot, read_metrics
from tests.fake_vllm.behaviours import Behaviour, Misbehaviour
from tests.fake_vllm.options import DEFAULT_MODEL, Options
from tests.fake_vllm.serving import serve

CALL_DEADLINE_S = 60.0
"""The first request of a real CPU engine takes up to half a minute."""

SLOW = Misbehaviour({Behaviour.SLOW: 2})
"""The fake waits two milliseconds before each token, so that who asks gets a word in without long answers."""

AT_LENGTH = frozenset({"test_adapters", "test_generation", "test_kinds", "test_sleep", "test_streams"})
"""Modules whose tests ask much or wait: those of the fake wait for the gate, as its whole cells do."""

_CORPORA = Path(__file__).parents[2] / "scenarios" / "corpora"
_BOOT_DEADLINE_S = 300.0


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark them before pytest chooses by marks."""
    for item in items:
        in_here = item.path.parent == Path(__file__).parent and item.path.stem in AT_LENGTH
        if in_here and not item.get_closest_marker("engine"):
            item.add_marker(pytest.mark.cell)


@dataclass(kw_only=True)
class Running:
    """A server that runs for all tests, and what they leave behind in it."""

    base_url: str
    model: str
    prompts: tuple[tuple[int, ...], ...]
    long_answer: int
    max_model_len: int
    own_weights: Path
    other_weights: Path
    adapters: Mapping[AdapterName, Path]
    weights_lost: bool = False


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A server under contract as one test meets it."""

    connection: Connection
    running: Running
    block_size: int = 32

    @property
    def model(self) -> str:
        """The name it is served under."""
        return self.running.model

    @property
    def prompts(self) -> tuple[tuple[int, ...], ...]:
        """Sixteen prompts of several blocks."""
        return self.running.prompts

    @property
    def long_answer(self) -> int:
        """Tokens that take it long enough to do something else meanwhile."""
        return self.running.long_answer

    def request(self, prompt: int = 0, **options: object) -> GenerationRequest:
        """A request for one of the prompts, greedy and short unless told otherwise."""
        fields = {"max_tokens": 8, "model": self.model, "deadline_s": CALL_DEADLINE_S, **options}
        return GenerationRequest(prompt_token_ids=self.prompts[prompt], **fields)  # type: ignore[arg-type]

    async def generate(self, prompt: int = 0, **options: object) -> Generation:
        """The answer to :meth:`request`, which must not fail."""
        answer = await generate(self.connection.openai, self.request(prompt, **options))
        assert answer.error is None, answer.error
        return answer

    async def generate_long(self, cache_salt: str | None = None) -> Generation:
        """An answer that takes a while."""
        return await self.generate(
            max_tokens=self.long_answer, extra={"ignore_eos": True}, cache_salt=cache_salt
        )

    async def metrics(self) -> MetricsSnapshot:
        """What ``/metrics`` says now."""
        reading = await read_metrics(self.connection.http, deadline_s=CALL_DEADLINE_S)
        assert reading.snapshot is not None, reading.error
        return reading.snapshot

    async def is_sleeping(self) -> JsonValue:
        """What ``/is_sleeping`` says now."""
        answer = await lifecycle.is_sleeping(self.connection.http, deadline_s=CALL_DEADLINE_S)
        return answer.field("is_sleeping")

    async def sleep(self, level: lifecycle.SleepLevel, mode: lifecycle.PauseMode | None = None) -> CallResult:
        """Put it to sleep, successfully."""
        self.running.weights_lost |= level == 2
        result = await lifecycle.sleep(
            self.connection.http, level=level, mode=mode, deadline_s=CALL_DEADLINE_S
        )
        assert result.ok, result
        return result

    async def wake_up(self, *tags: lifecycle.WakeTag) -> CallResult:
        """Wake it up, successfully."""
        result = await lifecycle.wake_up(self.connection.http, tags=tags, deadline_s=CALL_DEADLINE_S)
        assert result.ok, result
        return result

    async def reload_weights(self) -> None:
        """Load its weights again, successfully."""
        result = await lifecycle.reload_weights(self.connection.http, deadline_s=CALL_DEADLINE_S)
        assert result.field("results") == [None], result
        self.running.weights_lost = False

    async def reset_prefix_cache(self) -> None:
        """Make every prompt cold."""
        result = await lifecycle.reset_prefix_cache(self.connection.http, deadline_s=CALL_DEADLINE_S)
        assert result.field("success") is True, result


@asynccontextmanager
async def fake_server(folder: Path) -> AsyncIterator[Running]:
    """The fake, inside this process."""
    # It knows weights by the name of their folder, and adapters by their bytes.
    adapters: dict[AdapterName, Path] = {name: folder / name for name in ADAPTERS}
    for name, adapter in adapters.items():
        adapter.mkdir()
        (adapter / "adapter_model.safetensors").write_bytes(name.encode())
    own, other = folder / DEFAULT_MODEL, folder / "other"
    own.mkdir()
    other.mkdir()
    async with serve(Options(max_model_len=2048, misbehaviour=SLOW)) as base_url:
        yield await _running(
            base_url,
            DEFAULT_MODEL,
            long_answer=250,
            variants=Variants(own_weights=str(own), other_weights=other, adapters=adapters, exchanged=folder),
        )


@asynccontextmanager
async def real_server(log_path: Path) -> AsyncIterator[Running]:
    """The installed vLLM with the default model, as the process runtime starts it."""
    model = provide_model(dtype="float32")
    provide_variants(model, adapters=True, other_weights=True)
    spec = ServerSpec(
        run_id="contract",
        cell="contract",
        model=model.location,
        served_model_name=model.served_name,
        args=("--enable-prefix-caching", "--enable-scale-out", *lora_flags(()), *transfer_flags(())),
        env={**LORA_ENV, **TRANSFER_ENV},
        log_path=log_path,
        boot_deadline_s=_BOOT_DEADLINE_S,
    )
    async with ProcessRuntime(engine="cpu").start(spec) as server:
        yield await _running(
            server.base_url,
            model.served_name,
            long_answer=80,
            variants=variants_of(model, exchanged=log_path.parent),
        )


@pytest.fixture(scope="session", params=["fake", pytest.param("real", marks=pytest.mark.engine)])
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Each server once for all tests, in a thread of its own beside their event loops."""
    folder = tmp_path_factory.mktemp("contract")
    server = fake_server(folder) if request.param == "fake" else real_server(folder / "server.log")
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(server) as running:
        yield running


@pytest.fixture
async def subject(running: Running) -> AsyncIterator[Subject]:
    """A server under contract: awake, with its weights, nothing in its prefix cache."""
    async with connect(running.base_url) as connection:
        subject = Subject(connection=connection, running=running)
        if await subject.is_sleeping():
            await subject.wake_up()
            await lifecycle.resume(connection.http, deadline_s=CALL_DEADLINE_S)
        if running.weights_lost:
            await subject.reload_weights()
        await subject.reset_prefix_cache()
        yield subject


async def _running(base_url: str, model: str, *, long_answer: int, variants: Variants) -> Running:
    prompts = []
    async with connect(base_url) as connection:
        for prompt in load_corpus("paragraphs", folders=[_CORPORA], location="contract")[:16]:
            chat = [{"role": "user", "content": prompt.text}]
            tokenized = await lifecycle.tokenize_chat(connection.http, chat, deadline_s=CALL_DEADLINE_S)
            tokens = tokenized.field("tokens")
            assert isinstance(tokens, list)
            prompts.append(tuple(token for token in tokens if isinstance(token, int)))
    max_model_len = tokenized.field("max_model_len")
    assert isinstance(max_model_len, int)
    return Running(
        base_url=base_url,
        model=model,
        prompts=tuple(prompts),
        long_answer=long_answer,
        max_model_len=max_model_len,
        own_weights=Path(variants.own_weights),
        other_weights=variants.other_weights or Path(),
        adapters=variants.adapters,
    )

"""An ``LLM`` that is held for callers that wait: what it is asked, in which order, and in whose thread."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

from harness.engine_plugin import held_llm
from harness.engine_plugin.held_llm import HeldLLM

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """The loop of vLLM's front end."""
    return "asyncio"


class Scripted:
    """As much of an ``LLM`` as is held; says what it was asked."""

    model_config = renderer = input_processor = None
    supported_tasks = ("generate",)

    def __init__(self) -> None:
        self.said: list[object] = []
        self.threads = {threading.current_thread()}
        self.asleep = False
        self.raises: Exception | None = None
        self.llm_engine = SimpleNamespace(
            vllm_config="configuration",
            is_sleeping=lambda: self.asleep,
            engine_core=SimpleNamespace(resources=SimpleNamespace(engine_dead=False), shutdown=lambda: None),
            reset_encoder_cache=lambda: self._say("reset_encoder_cache"),
            add_lora=self._add_lora,
        )

    def _add_lora(self, request: object) -> bool:
        self._say(("add_lora", request))
        return True

    def _say(self, what: object) -> None:
        self.threads.add(threading.current_thread())
        self.said.append(what)

    def generate(
        self, prompts: list[Any], sampling: list[Any], *, use_tqdm: bool, lora_request: list[Any]
    ) -> list[str]:
        """As vLLM's."""
        assert not self.asleep, "it would wait for ever"
        assert not use_tqdm
        self._say(
            [
                (*each.values(), how, who)
                for each, how, who in zip(prompts, sampling, lora_request, strict=True)
            ]
        )
        if self.raises is not None:
            raise self.raises
        return [f"answer to {each['prompt_token_ids']}" for each in prompts]

    def sleep(self, *, level: int, mode: str) -> None:
        """As vLLM's."""
        self._say(("sleep", level, mode))
        self.asleep = True

    def wake_up(self, tags: list[str] | None) -> bool:
        """As vLLM's."""
        self._say(("wake_up", tags))
        self.asleep = bool(tags)
        return not self.asleep

    def collective_rpc(
        self, method: str, timeout: float | None, args: tuple[Any, ...], kwargs: Any
    ) -> list[Any]:
        """As vLLM's."""
        self._say((method, timeout, args, kwargs))
        return [{"rank0:weight": "digest"}]

    def __getattr__(self, name: str) -> Any:
        """Every other method says its name and what it was given."""
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *given: self._say((name, *given))


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> HeldLLM:
    """One that gathers until a call comes, however slow this machine is."""
    monkeypatch.setattr(held_llm, "GATHERING_S", 3600)
    return HeldLLM(Scripted)


def scripted(held: HeldLLM) -> Scripted:
    """The one that is held."""
    llm: Scripted = held._llm
    return llm


async def asked(
    held: HeldLLM, *tokens: int, sampling: object = "greedy", **named: Any
) -> asyncio.Task[list[Any]]:
    """One prompt that has been asked, and that will have an answer."""
    prompt = {"type": "token", "prompt_token_ids": [*tokens], **named.pop("prompt", {})}

    async def answer() -> list[Any]:
        return [each async for each in held.generate(prompt, sampling, "request-1", **named)]

    task = asyncio.create_task(answer())
    await asyncio.sleep(0)
    return task


async def test_requests_of_one_moment_are_one_batch(held: HeldLLM) -> None:
    """Each is answered with its own, whole answer, and brings its own sampling and adapter."""
    one = await asked(held, 1, prompt={"cache_salt": "s"})
    other = await asked(held, 2, sampling="hot", lora_request="a")
    await held.is_sleeping()
    assert [await one, await other] == [["answer to [1]"], ["answer to [2]"]]
    assert scripted(held).said == [[([1], "s", "greedy", None), ([2], "hot", "a")]]


async def test_a_batch_begins_once_nobody_joins_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """By itself, without any call."""
    monkeypatch.setattr(held_llm, "GATHERING_S", 0.001)
    assert await (await asked(HeldLLM(Scripted), 1)) == ["answer to [1]"]


async def test_it_belongs_to_one_thread(held: HeldLLM) -> None:
    """There it is built, asked and put to sleep, and that is not the thread of the loop."""
    task = await asked(held, 1)
    await held.sleep()
    await task
    assert len(scripted(held).threads) == 1
    assert threading.current_thread() not in scripted(held).threads


async def test_a_batch_is_answered_before_it_sleeps(held: HeldLLM) -> None:
    """As in the thread of a user, who waits for one before the other."""
    task = await asked(held, 1)
    await held.sleep(level=2, mode="keep")
    assert await task == ["answer to [1]"]
    assert scripted(held).said[1:] == [("sleep", 2, "keep")]


async def test_what_is_asked_while_it_sleeps_waits(held: HeldLLM) -> None:
    """Also for the last part of it to be awake; a call does not wait."""
    await held.sleep()
    task = await asked(held, 1)
    assert await held.is_sleeping()
    assert await held.wake_up(["weights"]) is False
    assert not task.done()
    assert await held.wake_up() is True
    await held.is_sleeping()
    assert await task == ["answer to [1]"]


async def test_nobody_is_answered_who_has_left(held: HeldLLM) -> None:
    """A prompt whose client is gone is no part of a batch."""
    left = await asked(held, 1)
    left.cancel()
    stays = await asked(held, 2)
    await held.is_sleeping()
    await stays
    assert scripted(held).said == [[([2], "greedy", None)]]


async def test_what_it_raises_reaches_everyone_who_asked(held: HeldLLM) -> None:
    """And it goes on to be asked."""
    scripted(held).raises = ValueError("too long")
    tasks = [await asked(held, 1), await asked(held, 2)]
    await held.is_sleeping()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert [str(each) for each in answers] == ["too long", "too long"]
    scripted(held).raises = None
    task = await asked(held, 3)
    await held.is_sleeping()
    assert await task == ["answer to [3]"]


async def test_every_call_is_a_method_of_its_class(held: HeldLLM) -> None:
    """What an ``LLM`` has no method for is asked of the engine behind it."""
    assert await held.reset_prefix_cache(True, False) is False
    await held.reset_mm_cache()
    await held.release_kv_cache_memory()
    await held.start_weight_update()
    await held.update_weights("request")
    await held.finish_weight_update("v2")
    await held.init_weight_transfer_engine("init")
    assert await held.get_weight_version() == "None"
    assert await held.compute_weight_checksums() == [{"rank0:weight": "digest"}]
    await held.reset_encoder_cache()
    assert await held.add_lora("adapter") is True
    assert scripted(held).said == [
        ("reset_prefix_cache", True, False),
        ("reset_mm_cache",),
        ("release_kv_cache_memory",),
        ("start_weight_update",),
        ("update_weights", "request"),
        ("finish_weight_update", "v2"),
        ("init_weight_transfer_engine", "init"),
        ("get_weight_version",),
        ("compute_weight_checksums", None, (), {}),
        "reset_encoder_cache",
        ("add_lora", "adapter"),
    ]
    assert await held.get_supported_tasks() == ("generate",)


async def test_it_says_when_its_engine_is_gone(held: HeldLLM) -> None:
    """By what vLLM's own client knows of the process that computes."""
    assert (held.is_running, held.is_stopped) == (True, False)
    scripted(held).llm_engine.engine_core.resources.engine_dead = True
    assert (held.is_running, held.is_stopped, held.errored) == (False, True, True)


async def test_pictures_are_not_given_to_it(held: HeldLLM) -> None:
    """They are no tokens; whoever sends one is told."""
    with pytest.raises(NotImplementedError, match="needs an AsyncLLM"):
        await (await asked(held, 1, prompt={"type": "multimodal"}))


def test_one_that_cannot_be_built_is_told() -> None:
    """By what its class raised."""

    def build() -> None:
        raise RuntimeError("no memory")

    with ThreadPoolExecutor() as pool, pytest.raises(RuntimeError, match="no memory"):
        pool.submit(HeldLLM, build).result(timeout=30)

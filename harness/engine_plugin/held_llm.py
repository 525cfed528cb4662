"""An ``LLM`` as its user holds it, for callers that would rather wait than block.

An ``LLM`` belongs to one thread, as a training loop's does: there it is built, generates a batch, and only
then is put to sleep.  What vLLM's own HTTP front end asks of an asynchronous engine is carried out there, one
thing after the other, by the methods of ``LLM`` itself.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeAlias

GATHERING_S = 0.01
"""A batch is begun once nobody has joined it for so long."""

CHECKSUMS = "compute_weight_checksums"


@dataclass(frozen=True, kw_only=True)
class _Request:
    prompt: Mapping[str, Any]
    sampling: object
    adapter: object
    done: Future[Any] = field(default_factory=Future)


@dataclass(frozen=True, kw_only=True)
class _Call:
    do: Callable[[Any], Any]
    done: Future[Any] = field(default_factory=Future)

    def carry_out(self, llm: Any) -> None:
        _answer(self.done, lambda: self.do(llm))


_Order: TypeAlias = _Request | _Call


class HeldLLM:
    """Has what vLLM's front end needs of an ``EngineClient``; what no ``LLM`` can do is not there.

    Args:
        build: Makes the ``LLM``; called in the thread that it belongs to.
    """

    def __init__(self, build: Callable[[], Any]) -> None:
        self._orders: queue.SimpleQueue[_Order] = queue.SimpleQueue()
        built: Future[Any] = Future()
        threading.Thread(target=self._work, args=(build, built), name="llm", daemon=True).start()
        self._llm = built.result()
        self.vllm_config = self._llm.llm_engine.vllm_config
        self.model_config = self._llm.model_config
        self.renderer = self._llm.renderer
        self.input_processor = self._llm.input_processor

    async def generate(
        self,
        prompt: Mapping[str, Any],
        sampling_params: object,
        request_id: str,  # noqa: ARG002 - an LLM numbers its requests itself
        *,
        lora_request: object = None,
        **_: object,  # what only a server has, such as a session
    ) -> AsyncIterator[Any]:
        """Yield the whole answer, once the batch is done that the prompt became a part of."""
        request = _Request(prompt=_as_given(prompt), sampling=sampling_params, adapter=lora_request)
        self._orders.put(request)
        yield await asyncio.wrap_future(request.done)

    async def sleep(self, level: int = 1, mode: str = "abort") -> None:
        """As ``LLM.sleep``."""
        await self._call(lambda llm: llm.sleep(level=level, mode=mode))

    async def wake_up(self, tags: Sequence[str] | None = None) -> bool:
        """As ``LLM.wake_up``."""
        return bool(await self._call(lambda llm: llm.wake_up(tags)))

    async def is_sleeping(self) -> bool:
        """As its engine says; an ``LLM`` does not."""
        return bool(await self._call(lambda llm: llm.llm_engine.is_sleeping()))

    async def release_kv_cache_memory(self) -> None:
        """As ``LLM.release_kv_cache_memory``."""
        await self._call(lambda llm: llm.release_kv_cache_memory())

    async def collective_rpc(
        self,
        method: str,
        timeout: float | None = None,  # noqa: ASYNC109 - vLLM's own signature
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> list[Any]:
        """As ``LLM.collective_rpc``."""
        told: list[Any] = await self._call(
            lambda llm: llm.collective_rpc(method, timeout, tuple(args), dict(kwargs or {}))
        )
        return told

    async def compute_weight_checksums(self) -> list[dict[str, str]]:
        """By a call of every worker."""
        return await self.collective_rpc(CHECKSUMS)

    async def reset_prefix_cache(
        self,
        reset_running_requests: bool = False,  # noqa: FBT001, FBT002 - vLLM's own signature
        reset_connector: bool = False,  # noqa: FBT001, FBT002 - as well
    ) -> bool:
        """As ``LLM.reset_prefix_cache``."""
        return bool(
            await self._call(lambda llm: llm.reset_prefix_cache(reset_running_requests, reset_connector))
        )

    async def reset_mm_cache(self) -> None:
        """As ``LLM.reset_mm_cache``."""
        await self._call(lambda llm: llm.reset_mm_cache())

    async def reset_encoder_cache(self) -> None:
        """By its engine."""
        await self._call(lambda llm: llm.llm_engine.reset_encoder_cache())

    async def add_lora(self, lora_request: object) -> bool:
        """By its engine, which loads an adapter before it is asked."""
        return bool(await self._call(lambda llm: llm.llm_engine.add_lora(lora_request)))

    async def init_weight_transfer_engine(self, init_request: object) -> None:
        """As ``LLM.init_weight_transfer_engine``."""
        await self._call(lambda llm: llm.init_weight_transfer_engine(init_request))

    async def start_weight_update(self) -> None:
        """As ``LLM.start_weight_update``."""
        await self._call(lambda llm: llm.start_weight_update())

    async def update_weights(self, request: object) -> None:
        """As ``LLM.update_weights``."""
        await self._call(lambda llm: llm.update_weights(request))

    async def finish_weight_update(self, weight_version: str | None = None) -> None:
        """As ``LLM.finish_weight_update``."""
        await self._call(lambda llm: llm.finish_weight_update(weight_version))

    async def get_weight_version(self) -> str:
        """As ``LLM.get_weight_version``."""
        return str(await self._call(lambda llm: llm.get_weight_version()))

    async def get_supported_tasks(self) -> tuple[str, ...]:
        """As its ``LLM`` says."""
        return tuple(self._llm.supported_tasks)

    async def do_log_stats(self) -> None:
        """Nothing: an ``LLM`` logs between its own steps."""

    async def check_health(self) -> None:
        """Return while the engine lives.

        Raises:
            Exception: vLLM's own, for an engine that is dead.
        """
        if self.errored:
            raise self.dead_error

    def check_admission(self, n: int = 1, request_id: str | None = None) -> None:
        """Take every request."""

    @property
    def errored(self) -> bool:
        """Whether the process that computes is gone."""
        resources = getattr(self._llm.llm_engine.engine_core, "resources", None)
        return bool(getattr(resources, "engine_dead", False))

    @property
    def is_running(self) -> bool:
        """Whether it still answers."""
        return not self.errored

    @property
    def is_stopped(self) -> bool:
        """Whether it no longer does."""
        return self.errored

    @property
    def dead_error(self) -> BaseException:
        """What vLLM raises then."""
        from vllm.v1.engine.exceptions import EngineDeadError

        return EngineDeadError()

    def shutdown(self, timeout: float | None = None) -> None:  # noqa: ARG002 - vLLM's own signature
        """End what computes; whatever it was about to answer is lost."""
        self._llm.llm_engine.engine_core.shutdown()

    async def _call(self, do: Callable[[Any], Any]) -> Any:
        call = _Call(do=do)
        self._orders.put(call)
        return await asyncio.wrap_future(call.done)

    def _work(self, build: Callable[[], Any], built: Future[Any]) -> None:
        """Hold the ``LLM``: gather what is asked into batches, and call nothing while one is computed."""
        _answer(built, build)
        if built.exception() is not None:
            return
        llm = built.result()
        waiting: list[_Request] = []
        awake = True  # to one that rests a request would never come back, nor anything after it
        while True:
            try:
                order = self._orders.get(timeout=GATHERING_S if waiting and awake else None)
            except queue.Empty:
                waiting = _generated(llm, waiting)
                continue
            if isinstance(order, _Request):
                waiting.append(order)
                continue
            if awake:
                waiting = _generated(llm, waiting)
            order.carry_out(llm)
            awake = not llm.llm_engine.is_sleeping()


def _generated(llm: Any, batch: list[_Request]) -> list[_Request]:
    """Let the ``LLM`` answer a batch, as far as anybody still waits; nobody is left to be answered then."""
    asked = [request for request in batch if request.done.set_running_or_notify_cancel()]
    if asked:
        try:
            outputs = llm.generate(
                [request.prompt for request in asked],
                [request.sampling for request in asked],
                use_tqdm=False,
                lora_request=[request.adapter for request in asked],
            )
        except BaseException as error:  # noqa: BLE001 - it is raised where the answer is waited for
            for request in asked:
                request.done.set_exception(error)
        else:
            for request, output in zip(asked, outputs, strict=True):
                request.done.set_result(output)
    return []


def _answer(done: Future[Any], do: Callable[[], Any]) -> None:
    if not done.set_running_or_notify_cancel():
        return
    try:
        done.set_result(do())
    except BaseException as error:  # noqa: BLE001 - it is raised where the answer is waited for
        done.set_exception(error)


def _as_given(prompt: Mapping[str, Any]) -> dict[str, Any]:
    """What a front end has rendered, as a user gives it.

    Raises:
        NotImplementedError: it holds more than tokens.
    """
    if prompt.get("type", "token") != "token":
        raise NotImplementedError("an LLM is asked for tokens alone: what holds pictures needs an AsyncLLM")
    salt = prompt.get("cache_salt")
    return {
        "prompt_token_ids": prompt["prompt_token_ids"],
        **({} if salt is None else {"cache_salt": salt}),
    }

"""The routes that need ``VLLM_SERVER_DEV_MODE=1``: the lifecycle."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus

from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.fake_vllm.behaviours import Behaviour, Fault
from tests.fake_vllm.engine import Engine, EngineError
from tests.fake_vllm.options import Options
from tests.fake_vllm.requests import (
    AbortRequest,
    FinishUpdateRequest,
    InitTransferRequest,
    PauseQuery,
    RpcRequest,
    SleepQuery,
    UpdateWeightsRequest,
    WeightCheckerRequest,
)

_TENSOR_PREFIX = "dp0:pp0:pcp0:tp0:"


class DevelopmentRoutes:
    """Handlers over one engine."""

    def __init__(self, engine: Engine, options: Options) -> None:
        self._engine = engine
        self._options = options

    def routes(self) -> list[Route]:
        """All of them."""
        return [
            Route("/sleep", self._sleep, methods=["POST"]),
            Route("/wake_up", self._wake_up, methods=["POST"]),
            Route("/is_sleeping", self._is_sleeping),
            Route("/pause", self._pause, methods=["POST"]),
            Route("/resume", self._resume, methods=["POST"]),
            Route("/abort_requests", self._abort_requests, methods=["POST"]),
            Route("/is_paused", self._is_paused),
            Route("/release_kv_cache_memory", self._release_kv_cache_memory, methods=["POST"]),
            Route("/collective_rpc", self._collective_rpc, methods=["POST"]),
            Route("/weight_checker", self._weight_checker, methods=["POST"]),
            Route("/weight_info", self._weight_info),
            Route("/init_weight_transfer_engine", self._init_weight_transfer_engine, methods=["POST"]),
            Route("/start_weight_update", self._start_weight_update, methods=["POST"]),
            Route("/update_weights", self._update_weights, methods=["POST"]),
            Route("/finish_weight_update", self._finish_weight_update, methods=["POST"]),
            Route("/update_weight_version", self._update_weight_version, methods=["POST"]),
            Route("/reset_prefix_cache", self._reset_prefix_cache, methods=["POST"]),
            Route("/reset_mm_cache", self._reset_nothing, methods=["POST"]),
            Route("/reset_encoder_cache", self._reset_nothing, methods=["POST"]),
            Route("/server_info", self._server_info),
        ]

    @contextmanager
    def _timed(self, operation: str) -> Iterator[None]:
        """Count a call and its time, whatever it answers."""
        clock = asyncio.get_running_loop().time
        began = clock()
        try:
            yield
        finally:
            self._engine.operations.setdefault(operation, []).append(clock() - began)

    async def _sleep(self, request: Request) -> Response:
        query = SleepQuery.model_validate(dict(request.query_params))
        with self._timed("sleep"):
            await self._engine.sleep(query.level, query.mode)
        dies = query.level > 0 and Behaviour.DIE_ASLEEP in self._options.misbehaviour
        return JSONResponse(
            {"status": "sleeping", "level": query.level},
            background=BackgroundTask(self._die) if dies else None,
        )

    async def _die(self) -> None:
        """Before anything else is answered: what is no coroutine would be left to a thread."""
        self._options.exit_process(1)

    async def _wake_up(self, request: Request) -> Response:
        tags = request.query_params.getlist("tags") or None
        with self._timed("wake"):
            fully_awake = await self._engine.wake_up(tags)
        return JSONResponse({"status": "awake" if fully_awake else "sleeping", "tags": tags})

    async def _is_sleeping(self, _: Request) -> Response:
        return JSONResponse({"is_sleeping": self._engine.is_sleeping})

    async def _pause(self, request: Request) -> Response:
        query = PauseQuery.model_validate(dict(request.query_params))
        await self._engine.pause(query.mode, clear_cache=query.clear_cache)
        return JSONResponse({"status": "paused"})

    async def _resume(self, _: Request) -> Response:
        self._engine.resume()
        return JSONResponse({"status": "resumed"})

    async def _abort_requests(self, request: Request) -> Response:
        AbortRequest.model_validate_json(await request.body())
        return JSONResponse({"status": "aborted", "aborted": self._engine.abort_requests()})

    async def _is_paused(self, _: Request) -> Response:
        return JSONResponse({"is_paused": self._engine.is_paused})

    async def _release_kv_cache_memory(self, _: Request) -> Response:
        self._engine.release_kv_cache_memory()
        return JSONResponse({"status": "kv_cache_released"})

    async def _collective_rpc(self, request: Request) -> Response:
        body = RpcRequest.model_validate_json(await request.body())
        if self._options.misbehaviour.has_switchboard and body.method in {"plant_fault", "heal"}:
            self._engine.faults.clear()
            if body.method == "plant_fault":
                self._engine.faults.add(Fault(body.kwargs["name"]))
            return JSONResponse({"results": [None]})
        if body.method == "checksums_of_buffers":
            positions = self._engine.model.positions
            return JSONResponse({"results": [{"positions": hashlib.sha256(positions.tobytes()).hexdigest()}]})
        if body.method != "reload_weights":
            raise EngineError(f"'Worker' object has no attribute '{body.method}'")
        try:
            self._engine.memory.reload_weights(body.kwargs.get("weights_path"))
        except FileNotFoundError as missing:
            raise EngineError(f"Worker failed with error '{missing}'") from missing
        return JSONResponse({"results": [None]})

    async def _weight_checker(self, request: Request) -> Response:
        body = WeightCheckerRequest.model_validate_json(await request.body())
        weights = self._engine.memory.weights
        if body.action == "reset":
            for tensor in weights.values():
                tensor[...] = 0
            return JSONResponse({"status": "reset"})
        checksums = {
            _TENSOR_PREFIX + name: hashlib.sha256(tensor.tobytes()).hexdigest()
            for name, tensor in weights.items()
        }
        return JSONResponse({"checksums": checksums})

    async def _weight_info(self, _: Request) -> Response:
        return JSONResponse({"weight_version": self._engine.weight_version})

    async def _init_weight_transfer_engine(self, request: Request) -> Response:
        InitTransferRequest.model_validate_json(await request.body())
        return JSONResponse({"message": "Weight transfer initialized"})

    async def _start_weight_update(self, _: Request) -> Response:
        if self._engine.memory.update_is_active:
            raise EngineError("start_weight_update called while a weight update is already active.")
        self._engine.memory.update_is_active = True
        return JSONResponse({"message": "Weight update started"})

    async def _update_weights(self, request: Request) -> Response:
        told = UpdateWeightsRequest.model_validate_json(await request.body()).update_info
        if not self._engine.memory.update_is_active:
            raise EngineError("start_weight_update must be called before update_weights.")
        try:
            self._engine.memory.update_weights(
                told.folder, chunk=told.chunk, chunks=told.chunks, leave_out=told.leave_out
            )
        except FileNotFoundError as missing:
            self._engine.memory.update_is_active = False
            raise EngineError(f"Worker failed with error '{missing}'") from missing
        return JSONResponse({"message": "Weights updated"})

    async def _finish_weight_update(self, request: Request) -> Response:
        body = FinishUpdateRequest.model_validate_json(await request.body() or "{}")
        if not self._engine.memory.update_is_active:
            raise EngineError("finish_weight_update called without a matching start_weight_update.")
        self._engine.memory.update_is_active = False
        self._engine.weight_version = body.weight_version or self._engine.weight_version
        return JSONResponse({"message": "Weight update finished"})

    async def _update_weight_version(self, request: Request) -> Response:
        self._engine.weight_version = (await request.json())["new_version"]
        return JSONResponse({"success": True, "new_version": self._engine.weight_version})

    async def _reset_prefix_cache(self, request: Request) -> Response:
        running_requests = request.query_params.get("reset_running_requests") == "true"
        return JSONResponse({"success": self._engine.reset_prefix_cache(running_requests=running_requests)})

    async def _reset_nothing(self, _: Request) -> Response:
        """The toy model knows neither pictures nor encoders."""
        return Response(status_code=HTTPStatus.OK)

    async def _server_info(self, _: Request) -> Response:
        options = self._options
        configuration = {
            "model_config": {
                "model": options.model,
                "dtype": f"torch.{options.dtype}",
                "max_model_len": options.max_model_len,
            },
            "scheduler_config": {"max_num_seqs": options.max_num_seqs},
            "cache_config": {
                "block_size": options.block_size,
                "num_gpu_blocks": options.blocks,
                "enable_prefix_caching": options.enable_prefix_caching,
            },
        }
        environment = {"os": "a toy", "cpu_info": "Architecture: toy\nCPU(s): 1", "cudnn_version": None}
        return JSONResponse({"vllm_config": configuration, "vllm_env": {}, "system_env": environment})

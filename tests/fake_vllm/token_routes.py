"""The route that takes and gives token ids alone (vllm/entrypoints/scale_out/token_in_token_out)."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.fake_vllm import answers
from tests.fake_vllm.engine import Engine
from tests.fake_vllm.options import Options
from tests.fake_vllm.refusals import bad_request, forbidden
from tests.fake_vllm.requests import TokenRequest
from tests.fake_vllm.sequence import Sampling, Sequence


class TokenRoutes:
    """A handler over one engine."""

    def __init__(self, engine: Engine, options: Options) -> None:
        self._engine = engine
        self._options = options

    def routes(self) -> list[Route]:
        """The one there is."""
        return [Route("/inference/v1/generate", self._generate, methods=["POST"])]

    async def _generate(self, request: Request) -> Response:
        if not self._options.enable_scale_out:
            raise forbidden(
                "Scale-out endpoints are disabled. Restart vllm serve with --enable-scale-out to enable them."
            )
        body = TokenRequest.model_validate_json(await request.body())
        asked = body.sampling_params
        trace = asked.trace_decode_token_ids
        if trace and not self._options.enable_trace_replay:
            raise bad_request(
                "trace_decode_token_ids is set but trace replay is not enabled. "
                "Start the engine with --enable-trace-replay to use it."
            )
        sequence = Sequence(
            tokens=list(body.token_ids),
            sampling=Sampling(
                max_tokens=min(len(trace), asked.max_tokens) if trace else asked.max_tokens,
                temperature=asked.temperature,
                seed=asked.seed,
                ignore_eos=asked.ignore_eos or bool(trace),
                forced=tuple(trace or ()),
            ),
            salt=body.cache_salt,
            adapter=self._engine.adapters.get(body.model or ""),
        )
        await self._engine.generate(sequence)
        return JSONResponse(
            answers.token_answer(
                sequence,
                candidates=asked.logprobs,
                model=body.model or self._options.served_model_name,
                details=self._options.enable_prompt_tokens_details,
            )
        )

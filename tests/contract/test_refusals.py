"""How bad requests are refused."""

from __future__ import annotations

import pytest
from pydantic import JsonValue

from harness.vllm_api import lifecycle
from harness.vllm_api.calls import call
from harness.vllm_api.generation import generate
from tests.contract.conftest import CALL_DEADLINE_S, Subject

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("change", "status", "kind", "param"),
    [
        ({"model": "nobody"}, 404, "NotFoundError", "model"),
        ({"prompt": []}, 400, "BadRequestError", None),
        ({"prompt": ""}, 400, "BadRequestError", "prompt"),
        ({"prompt": {"text": "?"}}, 400, "Bad Request", "body.prompt"),
        ({"prompt": [10**9]}, 400, "BadRequestError", None),
        ({"max_tokens": 0}, 400, "BadRequestError", "max_tokens"),
        ({"max_tokens": "many"}, 400, "Bad Request", "body.max_tokens"),
        ({"logprobs": 21}, 400, "BadRequestError", "logprobs"),
        ({"logprobs": -2}, 400, "BadRequestError", "logprobs"),
        ({"prompt_logprobs": 21}, 400, "BadRequestError", "prompt_logprobs"),
        ({"cache_salt": ""}, 400, "BadRequestError", "cache_salt"),
        ({"temperature": -1}, 400, "BadRequestError", "temperature"),
        ({"temperature": "warm"}, 400, "Bad Request", "body.temperature"),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_bad_completions(
    subject: Subject, change: dict[str, JsonValue], status: int, kind: str, param: str | None
) -> None:
    """A completion that makes no sense is refused with vLLM's error body, which says what is wrong."""
    payload = {"model": subject.model, "prompt": [5, 6, 7], "max_tokens": 1, **change}
    response = await subject.connection.http.post("/v1/completions", json=payload, timeout=CALL_DEADLINE_S)
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert error.pop("message")
    assert error == {"type": kind, "param": param, "code": status}


@pytest.mark.parametrize(("excess", "param"), [(0, "max_tokens"), (1, "input_tokens")])
async def test_prompts_without_room_for_an_answer(subject: Subject, excess: int, param: str) -> None:
    """A prompt as long as the model's context, or longer, is refused."""
    prompt = [5] * (subject.running.max_model_len + excess)
    payload = {"model": subject.model, "prompt": prompt, "max_tokens": 1}
    response = await subject.connection.http.post("/v1/completions", json=payload, timeout=CALL_DEADLINE_S)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param


async def test_a_refused_generation_is_a_value(subject: Subject) -> None:
    """The error of a generation carries the status and the server's own words."""
    answer = await generate(subject.connection.openai, subject.request(model="nobody"))
    assert answer.error is not None
    assert (answer.error.kind, answer.error.status) == ("http", 404)
    assert "`nobody` does not exist" in answer.error.message


@pytest.mark.parametrize("query", [{"level": "3"}, {"level": "-1"}, {"level": "deep"}, {"mode": "gently"}])
async def test_bad_sleeps(subject: Subject, query: dict[str, str]) -> None:
    """A level or mode that does not exist is refused, and the engine stays awake."""
    result = await call(
        subject.connection.http, "POST", "/sleep", params=list(query.items()), deadline_s=CALL_DEADLINE_S
    )
    assert result.status == 400
    assert isinstance(result.body, dict)
    error = result.body["error"]
    assert isinstance(error, dict)
    assert error["param"] == f"query.{next(iter(query))}"
    assert await subject.is_sleeping() is False


async def test_an_unknown_path_is_unavailable(subject: Subject) -> None:
    """A path or method the server does not have is told apart from a refusal."""
    http = subject.connection.http
    assert (await call(http, "POST", "/no_such_endpoint", deadline_s=CALL_DEADLINE_S)).unavailable
    assert (await call(http, "GET", "/sleep", deadline_s=CALL_DEADLINE_S)).unavailable


async def test_waking_what_is_awake_does_nothing(subject: Subject) -> None:
    """Waking an engine that is awake, or by a tag that does not exist, succeeds."""
    http = subject.connection.http
    before = await subject.generate()
    assert (await lifecycle.wake_up(http, deadline_s=CALL_DEADLINE_S)).ok
    unknown = await call(http, "POST", "/wake_up", params=[("tags", "nothing")], deadline_s=CALL_DEADLINE_S)
    assert unknown.body == {"status": "awake", "tags": ["nothing"]}
    assert (await subject.generate()).token_ids == before.token_ids


async def test_workers_have_no_other_methods(subject: Subject) -> None:
    """A method that workers do not have fails with HTTP 500."""
    http = subject.connection.http
    assert (await lifecycle.collective_rpc(http, "no_such_method", deadline_s=CALL_DEADLINE_S)).status == 500

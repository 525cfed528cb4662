"""What a server tells about itself, and its tokenizer."""

from __future__ import annotations

import pytest

from harness.vllm_api import lifecycle
from tests.contract.conftest import CALL_DEADLINE_S, Subject

pytestmark = pytest.mark.anyio

_CHAT = [{"role": "user", "content": "Tell me about India."}]


async def test_tokenizing_is_the_same_every_time(subject: Subject) -> None:
    """The same chat becomes the same ids, under the model's name or without."""
    http = subject.connection.http
    first = await lifecycle.tokenize_chat(http, _CHAT, deadline_s=CALL_DEADLINE_S)
    again = await lifecycle.tokenize_chat(http, _CHAT, model=subject.model, deadline_s=CALL_DEADLINE_S)
    assert first.body == again.body
    assert isinstance(first.body, dict)
    assert first.body.keys() == {"count", "max_model_len", "tokens", "token_strs"}
    tokens = first.field("tokens")
    assert isinstance(tokens, list)
    assert first.field("count") == len(tokens)


async def test_a_chat_is_its_template_as_text(subject: Subject) -> None:
    """The template adds tokens around a message, which text alone does not have."""
    http = subject.connection.http
    chat = await lifecycle.tokenize_chat(http, _CHAT, deadline_s=CALL_DEADLINE_S)
    text = await lifecycle.tokenize_text(http, _CHAT[0]["content"], deadline_s=CALL_DEADLINE_S)
    chat_tokens, text_tokens = chat.field("tokens"), text.field("tokens")
    assert isinstance(chat_tokens, list)
    assert isinstance(text_tokens, list)
    assert len(chat_tokens) > len(text_tokens)
    windows = [chat_tokens[start : start + len(text_tokens)] for start in range(len(chat_tokens))]
    assert text_tokens in windows


async def test_an_unknown_model_has_no_tokenizer(subject: Subject) -> None:
    """Asking for another model's tokenizer is refused."""
    result = await lifecycle.tokenize_text(
        subject.connection.http, "text", model="nobody", deadline_s=CALL_DEADLINE_S
    )
    assert result.status == 404
    assert not result.unavailable


async def test_the_loaded_weights_have_a_name(subject: Subject) -> None:
    """It stays the same as long as nobody updates them over HTTP."""
    http = subject.connection.http
    first, again = [await lifecycle.weight_info(http, deadline_s=CALL_DEADLINE_S) for _ in range(2)]
    assert first.ok
    assert isinstance(first.field("weight_version"), str)
    assert first.body == again.body


async def test_version_and_models(subject: Subject) -> None:
    """The release and the served model are told."""
    http = subject.connection.http
    version = await lifecycle.version(http, deadline_s=CALL_DEADLINE_S)
    assert version.field("version") == "0.32.0"
    models = await lifecycle.models(http, deadline_s=CALL_DEADLINE_S)
    cards = models.field("data")
    assert isinstance(cards, list)
    assert [card["id"] for card in cards if isinstance(card, dict)] == [subject.model]


async def test_the_configuration_is_told(subject: Subject) -> None:
    """The block size and whether the prefix cache is on can be read."""
    info = await lifecycle.server_info(subject.connection.http, deadline_s=CALL_DEADLINE_S)
    configuration = info.field("vllm_config")
    assert isinstance(configuration, dict)
    cache = configuration["cache_config"]
    assert isinstance(cache, dict)
    assert cache["block_size"] == subject.block_size
    assert cache["enable_prefix_caching"] is True


async def test_the_environment_is_told(subject: Subject) -> None:
    """What vLLM's collect_env collects, each thing by its name, several lines where it is a table."""
    info = await lifecycle.server_info(subject.connection.http, deadline_s=CALL_DEADLINE_S)
    environment = info.field("system_env")
    assert isinstance(environment, dict)
    assert environment["os"]
    assert "\n" in str(environment["cpu_info"])


async def test_the_fingerprint_is_constant(subject: Subject) -> None:
    """Every answer of one server carries the same fingerprint, with the release in it."""
    prints = {(await subject.generate(max_tokens=1)).system_fingerprint for _ in range(2)}
    assert len(prints) == 1
    assert "vllm-0.32.0" in str(prints.pop())


async def test_caches_of_pictures_can_be_reset(subject: Subject) -> None:
    """A model without pictures resets their caches all the same."""
    http = subject.connection.http
    assert (await lifecycle.reset_mm_cache(http, deadline_s=CALL_DEADLINE_S)).ok
    assert (await lifecycle.reset_encoder_cache(http, deadline_s=CALL_DEADLINE_S)).ok

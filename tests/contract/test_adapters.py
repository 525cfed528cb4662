"""Loading, replacing and unloading adapters, and what the prefix cache makes of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.models.variants import Variants
from harness.vllm_api import lifecycle
from harness.vllm_api.calls import CallResult
from harness.vllm_api.generation import generate
from tests.contract.conftest import CALL_DEADLINE_S, Subject

pytestmark = pytest.mark.anyio


async def load(subject: Subject, name: str, path: Path, *, in_place: bool = False) -> CallResult:
    """Load an adapter under a name."""
    return await lifecycle.load_lora_adapter(
        subject.connection.http,
        name=name,
        path=str(path),
        load_inplace=in_place,
        deadline_s=CALL_DEADLINE_S,
    )


async def unload(subject: Subject, name: str) -> CallResult:
    """Unload it."""
    return await lifecycle.unload_lora_adapter(subject.connection.http, name=name, deadline_s=CALL_DEADLINE_S)


@pytest.fixture
def variants(subject: Subject, tmp_path: Path) -> Variants:
    """The adapters that were made for the model, and a folder to exchange them in."""
    adapters = subject.running.adapters
    return Variants(own_weights="", adapters=adapters, exchanged=tmp_path)


async def test_adapters_answer_otherwise(subject: Subject, variants: Variants) -> None:
    """Base model and both adapters differ from each other, and each repeats itself."""
    for name in ("first", "second"):
        assert (await load(subject, name, variants.adapter(name))).ok
    answers = {name: await subject.generate(model=name) for name in (subject.model, "first", "second")}
    assert len({answer.token_ids for answer in answers.values()}) == 3
    for name, answer in answers.items():
        assert (await subject.generate(model=name)).token_ids == answer.token_ids
    for name in ("first", "second"):
        assert (await unload(subject, name)).ok
    assert (await subject.generate()).token_ids == answers[subject.model].token_ids


async def test_a_name_is_taken_until_it_is_unloaded(subject: Subject, variants: Variants) -> None:
    """A taken name can only be loaded in place, and a free one cannot be unloaded."""
    first = variants.adapter("first")
    assert (await load(subject, "x", first)).ok
    taken = await load(subject, "x", first)
    assert taken.status == 400
    assert (await load(subject, "x", first, in_place=True)).ok
    assert (await unload(subject, "x")).ok
    free = await unload(subject, "x")
    assert (free.status, free.unavailable) == (404, False)


async def test_an_adapter_that_is_not_there_is_refused(subject: Subject, tmp_path: Path) -> None:
    """A path without an adapter is refused, and nothing is served under the name."""
    refused = await load(subject, "x", tmp_path / "nothing")
    assert refused.status == 404
    assert (await generate(subject.connection.openai, subject.request(model="x"))).error is not None


async def test_the_cache_knows_an_adapter_by_its_path(subject: Subject, variants: Variants) -> None:
    """Replaced in place from another path, an adapter reads nothing of the one before it."""
    await load(subject, "x", variants.adapter("first"))
    await subject.generate(model="x")
    await load(subject, "x", variants.adapter("second"), in_place=True)
    assert (await subject.generate(model="x")).cached_tokens == 0
    await unload(subject, "x")


@pytest.mark.parametrize("in_place", [True, False])
async def test_the_cache_does_not_know_what_lies_at_the_path(
    subject: Subject, variants: Variants, *, in_place: bool
) -> None:
    """Replaced at the same path, an adapter reads the blocks of the one before it (vllm#42125)."""
    await load(subject, "right", variants.adapter("second"))
    right = await subject.generate(model="right")
    await unload(subject, "right")
    await load(subject, "x", variants.adapter("first", at_path_of="x"))
    await subject.generate(model="x")
    path = variants.adapter("second", at_path_of="x")
    if not in_place:
        await unload(subject, "x")
    assert (await load(subject, "x", path, in_place=in_place)).ok
    stale = await subject.generate(model="x")
    assert stale.cached_tokens
    assert stale.chosen_logprobs.tolist() != right.chosen_logprobs.tolist()
    fresh = await subject.generate(model="x", cache_salt="fresh")
    assert fresh.token_ids == right.token_ids
    await unload(subject, "x")

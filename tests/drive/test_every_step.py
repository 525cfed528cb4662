"""A step that is a call is everywhere it has to be: on the server, in the contract, in what users read."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast, get_args

import httpx
import pytest

from harness.drive import transitions
from harness.drive.session import Session
from harness.scenario.schema import Deadlines
from harness.scenario.script import STEPS
from harness.scenario.steps.calls import Transition
from harness.vllm_api import lifecycle
from tests.fake_vllm.app import create_app
from tests.fake_vllm.options import Options

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]
REQUIRED: dict[str, dict[str, str]] = {
    "load_adapter": {"name": "x", "adapter": "first"},
    "unload_adapter": {"name": "x"},
    "update_weights": {"weights": "own"},
}
"""Options of the steps that cannot do without."""

calls = pytest.mark.parametrize("model", get_args(Transition), ids=lambda model: model.key())


class Watched:
    """vLLM's lifecycle endpoints, and which of them was called last."""

    called = ""

    def __getattr__(self, name: str) -> object:
        """The endpoint's own function."""
        self.called = name
        return getattr(lifecycle, name)


@calls
async def test_it_is_a_call_that_the_fake_serves_and_the_contract_holds(
    model: type[Transition], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fake server has its endpoint, and one test asks the fake and the real engine for the same."""
    watched = Watched()
    monkeypatch.setattr(transitions, "lifecycle", watched)
    transport = httpx.ASGITransport(create_app(Options()), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://fake") as http:
        session = SimpleNamespace(
            connection=SimpleNamespace(http=http),
            scenario=SimpleNamespace(deadlines=Deadlines()),
            path_of_weights=lambda _: None,
            folder_of_weights=lambda _: "/",
            variants=SimpleNamespace(adapter=lambda *_, **__: ROOT),
        )
        step = model.model_validate({model.key(): REQUIRED.get(model.key(), {})})
        result = await transitions.make_call(cast(Session, session), step)
    assert not result.unavailable, f"tests/fake_vllm has no {result.method} {result.path}"
    contract = "".join(file.read_text(encoding="utf-8") for file in (ROOT / "tests/contract").glob("*.py"))
    assert f"lifecycle.{watched.called}(" in contract


@pytest.mark.parametrize("key", sorted(STEPS))
def test_users_find_it(key: str) -> None:
    """``scenarios/README.md`` says in its table of steps what each does."""
    text = (ROOT / "scenarios" / "README.md").read_text(encoding="utf-8")
    table = text.partition("## Steps")[2].partition("<!-- steps: begin -->")[0]
    assert f"`{key}: " in table

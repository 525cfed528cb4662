"""``sleepwake.guard`` of an OpenAI endpoint: asked over HTTP, by the guard's own process."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

import sleepwake
from sleepwake._endpoint import GuardedEndpoint
from sleepwake._guard_child import Child
from tests.fake_vllm.behaviours import Behaviour, Fault, Misbehaviour
from tests.fake_vllm.threads import Served
from tests.public.scripted_llm import ScriptedLLM

pytestmark = pytest.mark.cell

ROOT = Path(__file__).parents[2]
FOUNDING_BUG = Misbehaviour({}, frozenset({Fault.KEEP_PREFIX_CACHE}))


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The guard's own process finds this tree, and no switch of a developer's is on."""
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{ROOT / 'harness' / 'public'}")
    monkeypatch.delenv("SLEEPWAKE_GUARD", raising=False)


@pytest.mark.parametrize(
    ("misbehaviour", "verdict", "cause"),
    [
        (None, sleepwake.Verdict.CLEAN, None),
        (FOUNDING_BUG, sleepwake.Verdict.CORRUPT, sleepwake.Cause.STALE_PREFIX_CACHE),
    ],
)
def test_a_server_is_asked_after_its_sleep(
    served: Served, tmp_path: Path, misbehaviour: Misbehaviour | None, verdict: str, cause: str | None
) -> None:
    """It gets the verdict that an engine in process gets; asleep, it is not asked."""
    endpoint = served.start(misbehaviour)
    with sleepwake.guard(endpoint, out=tmp_path) as guard:
        httpx.post(f"{endpoint}/sleep")
        asleep = guard.check()
        assert (asleep.verdict, asleep.tokens) == (sleepwake.Verdict.INCONCLUSIVE, 0)
        httpx.post(f"{endpoint}/wake_up")
        said = guard.check()
        assert (said.verdict, said.cause) == (verdict, cause), said.reason
        assert guard.directory is not None
    assert sleepwake.check(guard.directory).result.cells[0].reason == said.reason


def test_weights_that_are_lost_are_named(served: Served, tmp_path: Path) -> None:
    """The server tells their checksums; a reference may be an engine of this process, and no endpoint."""
    endpoint = served.start()
    with sleepwake.guard(f"{endpoint}/v1/", out=tmp_path) as guard:
        httpx.post(f"{endpoint}/sleep?level=2")
        httpx.post(f"{endpoint}/wake_up")
        said = guard.check()
        assert (said.verdict, said.cause) == (sleepwake.Verdict.CORRUPT, sleepwake.Cause.LOST_WEIGHTS)
        assert "checksums of" in said.reason
        with pytest.raises(sleepwake.GuardError, match="no endpoint"):
            guard.expect_new_weights(reference=endpoint)
        guard.expect_new_weights(reference=ScriptedLLM())
        assert guard.check().verdict != sleepwake.Verdict.CLEAN


def test_a_server_that_wants_a_key_gets_it_from_the_environment(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it the guard cannot begin, and says why; with it nothing of it is written down."""
    endpoint = served.start(Misbehaviour({Behaviour.WANTS_KEY: 0}))
    with pytest.raises(sleepwake.GuardError):
        sleepwake.guard(endpoint, out=tmp_path)
    monkeypatch.setenv("SLEEPWAKE_API_KEY", "a-secret-of-theirs")
    with sleepwake.guard(endpoint, out=tmp_path) as guard:
        assert guard.check().verdict == sleepwake.Verdict.CLEAN
    written = [path.read_text() for path in tmp_path.rglob("*") if path.is_file()]
    assert written
    assert not [text for text in written if "a-secret-of-theirs" in text]


def test_what_is_no_server_is_refused(served: Served, tmp_path: Path) -> None:
    """A closed port; and what the guard's own process asks is never asked here."""
    endpoint = served.start()
    served.stop()
    with pytest.raises(sleepwake.GuardError, match="lists no model"):
        sleepwake.guard(endpoint, out=tmp_path)
    child = Child()
    with pytest.raises(AssertionError, match="not over HTTP"):
        GuardedEndpoint(endpoint, child).answer({"ask": "answers"})
    child.end()

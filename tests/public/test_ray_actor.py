"""``sleepwake.guard`` of an actor of Ray, by way of a handle that calls in this process."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import sleepwake
from sleepwake._ray_actor import GuardedActor, is_actor
from tests.public.scripted_llm import ScriptedLLM

ROOT = Path(__file__).parents[2]


class ActorHandle:
    """As Ray's, which runs a function inside the actor by ``__ray_call__``."""

    def __init__(self, held: object) -> None:
        self.__ray_call__ = SimpleNamespace(remote=self._call)
        self._held = held
        self.sleep = SimpleNamespace(remote=lambda **_: None)

    def _call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return function(self._held, *arguments)


ActorHandle.__module__ = "ray.actor"


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The guard's own process finds this tree, and whoever has an actor has Ray."""
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{ROOT / 'harness' / 'public'}")
    monkeypatch.delenv("SLEEPWAKE_GUARD", raising=False)
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(get=lambda told: told))


def test_an_engine_in_an_actor_is_guarded(tmp_path: Path) -> None:
    """Under the attribute that is named; the handle's own methods stay what they are."""
    llm = ScriptedLLM()
    actor = ActorHandle(SimpleNamespace(worker=SimpleNamespace(llm=llm)))
    sleep = actor.sleep
    with sleepwake.guard(actor, held_as="worker.llm", out=tmp_path) as guard:
        assert actor.sleep is sleep
        llm.sleep(level=1)
        assert guard.check().verdict == sleepwake.Verdict.INCONCLUSIVE
        llm.wake_up()
        assert guard.check().verdict == sleepwake.Verdict.CLEAN
        llm.sleep(level=2)
        llm.wake_up()
        said = guard.check()
    assert (said.verdict, said.cause) == (sleepwake.Verdict.CORRUPT, sleepwake.Cause.LOST_WEIGHTS)


def test_only_a_handle_is_taken_for_an_actor() -> None:
    """What has another name, or comes from another package, is not."""
    assert is_actor(ActorHandle(None))
    assert not is_actor(ScriptedLLM())
    other = type("ActorHandle", (), {})
    assert not is_actor(other())


def test_an_actor_that_holds_no_engine_is_refused() -> None:
    """With the argument that names it."""
    actor = GuardedActor(ActorHandle(SimpleNamespace(llm=ScriptedLLM())))
    with pytest.raises(TypeError, match="`held_as` names the attribute"):
        actor.facts()
    assert GuardedActor(ActorHandle(SimpleNamespace(llm=ScriptedLLM())), held_as="llm").is_asleep is False


@pytest.mark.ray
def test_a_real_actor_is_asked_in_its_own_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray's own; the engine that it holds is scripted."""
    monkeypatch.delitem(sys.modules, "ray")
    import ray

    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    try:
        remote: Any = ray.remote(ScriptedLLM)
        actor = remote.remote()
        with sleepwake.guard(actor, out=tmp_path) as guard:
            ray.get(actor.sleep.remote(level=1))
            ray.get(actor.wake_up.remote())
            assert guard.check().verdict == sleepwake.Verdict.CLEAN
            ray.get(actor.sleep.remote(level=2))
            ray.get(actor.wake_up.remote())
            said = guard.check()
        assert (said.verdict, said.cause) == (sleepwake.Verdict.CORRUPT, sleepwake.Cause.LOST_WEIGHTS)
    finally:
        ray.shutdown()

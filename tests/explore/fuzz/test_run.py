"""A search against the fake server: what is planted is found, shrunk, confirmed and written down."""

from __future__ import annotations

import asyncio
import json
import shlex
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeAlias

import anyio
import pytest
from anyio.from_thread import start_blocking_portal

from harness.errors import ServerDiedError, UsageError
from harness.explore.fuzz import confirming
from harness.explore.fuzz import run as module
from harness.explore.fuzz.confirming import FuzzOptions
from harness.explore.fuzz.engine import FuzzEngine
from harness.explore.fuzz.findings import DIED, HANGS, LOST_REQUESTS, WRONG_ANSWERS, WRONG_STATE
from harness.explore.fuzz.in_words import words
from harness.explore.fuzz.moves import LEGAL_MOVES, OVERLAPPING_MOVES, SAFE_MOVES, Move
from harness.explore.fuzz.run import (
    FINDINGS_FILE,
    KNOWN_FILE,
    SEQUENCES_FILE,
    Fuzz,
    conclusion,
    table,
)
from harness.scenario.cells import load_cells
from harness.servers.select import Choice
from tests.fake_vllm.behaviours import Behaviour
from tests.fake_vllm.in_process import InProcessRuntime
from tests.virtual_time import VirtualTimeLoop

pytestmark = pytest.mark.cell

Start: TypeAlias = Callable[..., Fuzz]

SLEEPING = ("sleep level=1", "wake_up", "sleep level=0")
RELEASING = ("pause", "resume", "release_kv_cache_memory")
DEEPER = ("sleep level=1", "sleep level=2", "wake_up")


def moves(told: tuple[str, ...]) -> tuple[Move, ...]:
    """The moves that read so."""
    return tuple(move for move in LEGAL_MOVES if words(move[0]) in told)


def on_virtual_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Engines hang and die without anybody waiting for them, but for the search that thinks in real time."""
    options = {"loop_factory": VirtualTimeLoop}
    run, wait_for_errand = anyio.run, FuzzEngine._wait_for_errand

    async def waits_in_real_time(engine: FuzzEngine) -> object:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        with loop.clock.held():
            return await wait_for_errand(engine)

    monkeypatch.setattr(anyio, "run", partial(run, backend_options=options))
    portal = partial(start_blocking_portal, backend_options=options)
    monkeypatch.setattr(module, "start_blocking_portal", portal)
    monkeypatch.setattr(FuzzEngine, "_wait_for_errand", waits_in_real_time)


@pytest.fixture
def search(
    tmp_path: Path,
    toy_model_folder: Path,
    in_process: InProcessRuntime,
    monkeypatch: pytest.MonkeyPatch,
) -> Start:
    """Searches of the fake, which misbehaves as asked; a finding is confirmed on one fresh engine."""
    for each in (module, confirming):
        monkeypatch.setattr(each, "CONFIRMATIONS", 1)
    on_virtual_time(monkeypatch)

    def start(misbehave: str = "", **options: object) -> Fuzz:
        monkeypatch.setenv("FAKE_VLLM", misbehave)
        asked = FuzzOptions(
            choice=Choice(runtime=in_process, reason="the fake"),
            out=tmp_path / "reports",
            budget_s=None,
            examples=8,
            seed=1,
            model=str(toy_model_folder),
        )
        return Fuzz(options=replace(asked, **options), tell=lambda _: None)  # type: ignore[arg-type]

    return start


@pytest.mark.parametrize(
    ("misbehave", "drawn", "kind", "shortest"),
    [
        (
            Behaviour.FORGET_NOTHING_IF_PAUSED,
            SLEEPING,
            WRONG_ANSWERS,
            {("sleep level=0", "sleep level=1", "wake_up")},
        ),
        (Behaviour.HANG_AFTER_RELEASE, RELEASING, HANGS, {("pause", "release_kv_cache_memory", "wake_up")}),
        (
            Behaviour.DIE_SLEEPING_DEEPER,
            DEEPER,
            DIED,
            {(f"sleep level={level}", "sleep level=2", "wake_up") for level in (1, 2)},
        ),
    ],
)
def test_what_is_planted_is_found_and_shrunk(
    search: Start, misbehave: Behaviour, drawn: tuple[str, ...], kind: str, shortest: set[tuple[str, ...]]
) -> None:
    """A stale cache, a hang, a death: each is found without being told, and shown on a fresh engine."""
    fuzz = search(misbehave, moves=moves(drawn), examples=12)
    fuzz.run()
    found = {(each.signature.kind, each.calls, each.shown) for each in fuzz.found}
    assert found & {(kind, calls, 1) for calls in shortest}


@dataclass(frozen=True, kw_only=True)
class Race:
    """What is planted, what is drawn beside races, and where the search has found it by."""

    misbehave: Behaviour
    drawn: tuple[str, ...]
    kind: str
    meet: str
    """The calls that have to meet."""
    seed: int
    within: int
    """Sequences."""


RACES = (
    Race(
        misbehave=Behaviour.WAKE_UP_OVERTAKES_SLEEP,
        drawn=("wake_up",),
        kind=WRONG_STATE,
        meet="sleep beside wake_up",
        seed=4,
        within=8,
    ),
    Race(
        misbehave=Behaviour.RESET_LOST_BETWEEN_CALLS,
        drawn=("reset_prefix_cache", "resume"),
        kind=WRONG_STATE,
        meet="pause beside reset_prefix_cache",
        seed=2,
        within=18,
    ),
    Race(
        misbehave=Behaviour.PAUSE_AND_CANCEL_DROP_REQUEST,
        drawn=("resume",),
        kind=LOST_REQUESTS,
        meet="pause beside cancel_requests",
        seed=1,
        within=8,
    ),
)


@pytest.mark.parametrize("race", RACES, ids=lambda race: race.misbehave)
def test_a_planted_race_is_found_and_shrunk_to_the_calls_that_meet(search: Start, race: Race) -> None:
    """No call by itself shows it, nor do the same calls one after the other."""
    races = OVERLAPPING_MOVES[len(LEGAL_MOVES) :]
    drawn = (*moves(("start_requests name=held", *race.drawn)), *races)
    fuzz = search(f"slow:50,{race.misbehave}", moves=drawn, seed=race.seed, examples=race.within)
    fuzz.run()
    found = [each for each in fuzz.found if race.meet in each.signature.calls]
    assert [(each.signature.kind, each.shown) for each in found] == [(race.kind, 1)]


def test_an_engine_that_was_not_woken_is_not_asked(search: Start) -> None:
    """A wake-up by a tag that nobody knows wakes nothing, as in vLLM: that is the finding, and no hang."""
    odd = tuple(move for move in OVERLAPPING_MOVES if "unknown" in str(move))
    fuzz = search(moves=(*moves(("sleep level=1",)), *odd))
    fuzz.run()
    assert [(each.signature.kind, each.signature.calls, each.shown) for each in fuzz.found] == [
        (WRONG_STATE, ("sleep level=1", "wake_up by odd tags"), 1)
    ]


def test_a_finding_is_on_disk_with_all_it_takes_to_see_it_again(search: Start, tmp_path: Path) -> None:
    """A scenario that loads, a script for a shell, what was tried, and by what it is known again."""
    planted = {"misbehave": Behaviour.FORGET_NOTHING_IF_PAUSED, "moves": moves(SLEEPING)}
    fuzz = search(**planted)
    fuzz.run()
    (finding,) = fuzz.found
    (cell,) = load_cells([finding.directory / f"{finding.name}.yaml"])
    assert [words(step) for step in cell.scenario.script[2:5]] == list(finding.calls)
    assert (finding.directory / "bug-report" / "repro.sh").exists()
    shown_again = (finding.directory / "repro.sh").read_text(encoding="utf-8")
    assert f'run "$(dirname "$0")/{finding.name}.yaml"' in shown_again
    assert finding.signature.told in shown_again
    (told,) = json.loads((fuzz.directory / FINDINGS_FILE).read_text(encoding="utf-8"))["findings"]
    assert (told["cause"], told["shown_on_fresh_engines"]) == ("stale prefix cache", 1)
    tried = (fuzz.directory / SEQUENCES_FILE).read_text(encoding="utf-8").splitlines()
    assert len(tried) == fuzz.tried
    assert (tmp_path / "reports" / KNOWN_FILE).exists()
    assert len(table(fuzz).rows) == 1

    again = search(**planted)
    again.run()
    assert again.found == []
    assert sum(again.known_again.values()) > 0
    assert "known findings came up" in conclusion(again)


def test_an_engine_that_dies_of_its_recovery_holds_nothing_up(
    search: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was found before counts, and the next sequence meets a fresh engine."""

    async def die(_: object) -> bool:
        raise ServerDiedError("the server died", remedy="none")

    monkeypatch.setattr("harness.explore.fuzz.engine._recover", die)
    fuzz = search(Behaviour.FORGET_NOTHING_IF_PAUSED, moves=moves(SLEEPING))
    fuzz.run()
    assert [each.signature.kind for each in fuzz.found] == [WRONG_ANSWERS]
    assert fuzz.engines > 1


def test_what_it_takes_to_see_it_again_names_the_runtime_and_the_flags(search: Start) -> None:
    """Those of the search, unless whoever runs it asks for others."""
    fuzz = search(Behaviour.FORGET_NOTHING_IF_PAUSED, moves=moves(SLEEPING), vllm_args=("--a=it's", "--b"))
    fuzz.run()
    script = (fuzz.found[0].directory / "repro.sh").read_text(encoding="utf-8")
    told = script.replace("exec ", 'printf \'%s|\' "$SLEEPWAKE_RUNTIME" "$SLEEPWAKE_VLLM_ARGS" # ')
    for environment, expected in (
        ({}, "process|" + shlex.join(("--a=it's", "--b")) + "|"),
        ({"SLEEPWAKE_RUNTIME": "docker", "SLEEPWAKE_VLLM_ARGS": "--c"}, "docker|--c|"),
    ):
        ran = subprocess.run(
            ["/bin/sh", "-c", told], env=environment, capture_output=True, text=True, check=True
        )
        assert ran.stdout == expected


def test_what_no_fresh_engine_shows_is_no_new_finding(
    search: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told, and tried again by the next search."""
    monkeypatch.setattr(confirming, "_shown", lambda _directory, _its: 0)
    fuzz = search(Behaviour.FORGET_NOTHING_IF_PAUSED, moves=moves(SLEEPING))
    fuzz.run()
    assert (len(fuzz.found), fuzz.shown) == (1, [])
    assert "nothing new found, 1 that no fresh engine reproduced" in conclusion(fuzz)
    assert not (tmp_path / "reports" / KNOWN_FILE).exists()


def test_a_finding_whose_trial_is_interrupted_is_neither_shown_nor_forgotten(
    search: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is on disk and told as what it is; the next search finds it again."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(confirming.Confirmation, "confirm", interrupt)
    fuzz = search(Behaviour.FORGET_NOTHING_IF_PAUSED, moves=moves(SLEEPING))
    with pytest.raises(KeyboardInterrupt):
        fuzz.run()
    assert "nothing new found, 1 whose confirmation was cut short" in conclusion(fuzz)
    assert table(fuzz).rows[0].fields[-1] == "not finished"
    (told,) = json.loads((fuzz.directory / FINDINGS_FILE).read_text(encoding="utf-8"))["findings"]
    assert told["shown_on_fresh_engines"] is None
    assert not (tmp_path / "reports" / KNOWN_FILE).exists()


def test_what_is_known_of_other_searches_excuses_nothing_among_safe_sequences(
    search: Start, tmp_path: Path
) -> None:
    """Each kind of search has a memory of its own."""
    search(Behaviour.FORGET_NOTHING_IF_PAUSED, moves=SAFE_MOVES, examples=1).run()
    (tmp_path / "reports" / KNOWN_FILE).write_text("not read", encoding="utf-8")
    search(moves=SAFE_MOVES, examples=1).run()
    with pytest.raises(UsageError, match="no file of known findings"):
        search(moves=moves(SLEEPING))


def test_a_healthy_engine_holds_and_is_kept(search: Start) -> None:
    """Nothing is found in safe sequences, and one engine serves them all."""
    fuzz = search(moves=SAFE_MOVES, examples=12)
    fuzz.run()
    assert (fuzz.found, fuzz.engines, fuzz.tried) == ([], 1, 12)
    assert conclusion(fuzz) == "12 sequences on 1 engine: nothing new found"

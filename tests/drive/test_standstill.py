"""A hang is told from slowness by what an engine does, look by look."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from harness.drive.standstill import IDLE_CORES, Look, Vigil
from harness.servers.base import Activity
from harness.vllm_api.metrics import parse_metrics

NOTHING = parse_metrics("vllm:generation_tokens_total 100\nvllm:num_requests_running 4\n")
IDLE = Activity(cpu_seconds=7.0, wants_cpu=False)


def using(cores: float) -> Callable[[Look], Look]:
    """Processes that use so much of a core all the time, and never seem to want it."""
    return lambda look: replace(look, activity=Activity(cpu_seconds=cores * look.t, wants_cpu=False))


def vigil(looks: int, *, change: Callable[[Look], Look] = lambda look: look, every: int = 1) -> Vigil:
    """What is concluded from a look a second, of which one in so many shows a change."""
    watching = Vigil(limit_s=10.0)
    for t in range(looks):
        look = Look(t=float(t), counters=NOTHING, activity=IDLE)
        watching.see(change(look) if t % every == 0 else look)
    return watching


def test_an_engine_that_does_nothing_hangs_after_so_many_seconds() -> None:
    """Not before; and it is said for how long."""
    assert not vigil(10).hangs
    assert vigil(11).hangs
    assert vigil(21).still_s == 20.0


def test_whatever_happens_now_and_then_is_no_hang() -> None:
    """A token, a request that begins, an iteration, a thread that wants a core, time that was computed."""
    for change in (
        lambda look: replace(look, counters=replace(NOTHING, generation_tokens=100 + int(look.t))),
        lambda look: replace(look, counters=replace(NOTHING, iterations=int(look.t))),
        lambda look: replace(look, counters=replace(NOTHING, requests_running=3)),
        lambda look: replace(look, activity=replace(IDLE, wants_cpu=True)),
        lambda look: replace(look, late=True),
    ):
        assert not vigil(60, change=change, every=5).hangs


def test_an_engine_that_computes_is_no_hang_however_long() -> None:
    """A long prefill counts nothing for a minute."""
    assert not vigil(60, change=using(1.0)).hangs
    assert vigil(60, change=using(0.5 * IDLE_CORES)).hangs, "our own looks cost it a little"


def test_an_answer_is_progress() -> None:
    """Whatever the counters say."""
    watching = vigil(9)
    watching.answered()
    watching.see(Look(t=9.0, counters=NOTHING, activity=IDLE))
    assert watching.still_s == 0.0


def test_counters_that_cannot_be_read_do_not_hide_a_hang() -> None:
    """A server that answers nothing at all, and whose processes do nothing, hangs as well."""
    assert vigil(20, change=lambda look: replace(look, counters=None)).hangs


def test_processes_that_cannot_be_seen_prove_nothing() -> None:
    """Counters alone stand still in a long step; for how long is kept."""
    unseen = vigil(60, change=lambda look: replace(look, activity=None))
    assert not unseen.hangs
    told = unseen.waited(t=60.0, step="3", pass_number=2, tokens=96)
    assert (told.still_seconds, told.counters_still_seconds, told.cpu_seconds) == (None, 59.0, None)


def test_the_pace_that_was_seen_says_how_long_all_would_take() -> None:
    """24 of 96 tokens in 59 seconds: about four times as long."""
    watching = vigil(60)
    watching.see(Look(t=60.0, counters=replace(NOTHING, generation_tokens=124), activity=IDLE))
    told = watching.waited(t=61.0, step="3", pass_number=2, tokens=96)
    assert (told.seconds, told.generated_tokens, told.would_take_seconds) == (60.0, 24, 240.0)


def test_a_wait_that_was_too_short_to_look_says_nothing() -> None:
    """No look, no conclusion."""
    told = Vigil(limit_s=1.0).waited(t=0.1, step=None, pass_number=None, tokens=1)
    assert (told.seconds, told.still_seconds, told.would_take_seconds) == (0.0, None, None)

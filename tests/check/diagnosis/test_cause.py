"""Which cause the controls leave."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from harness.check.noise.limits import GROSS, RESOLUTION
from harness.check.result import Cause, CellResult
from harness.history.observations import WeightChecksums
from harness.history.passes import Answer, Control, Method, Role
from tests.check.stories import WARM, Change, Story, both, failing, garbage, scaled, shifted

ALL = ["p0", "p1", "p2", "p3", "p4"]
ALL4 = ("p0", "p1", "p2", "p3")


def damage(names: list[str], change: Change | None = None) -> dict[str, Change]:
    """The same damage to several prompts, by default to whole answers."""
    return dict.fromkeys(names, change or garbage(0))


def stale_prefix_cache(**options: bool | tuple[str, ...]) -> Story:
    """The founding bug: warm answers read blank blocks, cold ones are sound."""
    story = Story(**options).baseline().null()  # type: ignore[arg-type] # test shorthand
    return story.sleep(keeps_cache=True).wake().probe(1, warm=damage(ALL))


def lost_weights(*, level: int = 1) -> Story:
    """Weights that did not come back: every answer is damaged."""
    return Story().baseline().null().sleep(level).wake().probe(1, warm=damage(ALL), cold=damage(ALL))


def outcomes(result: CellResult) -> dict[str, tuple[int, int]]:
    """Healed and asked prompts of every control."""
    return {each.control: (each.healed, each.asked) for each in result.controls}


def test_stale_prefix_cache() -> None:
    """A fresh salt and a reset heal, unseen prompts hold, every damaged answer came from the cache."""
    story = stale_prefix_cache()
    story.control(Control.FRESH_SALT).control(Control.UNSEEN_PROMPTS).control(Control.RESET_PREFIX_CACHE)
    result = story.judged()
    assert result.cause is Cause.STALE_PREFIX_CACHE
    assert outcomes(result) == {"fresh_salt": (4, 4), "unseen_prompts": (1, 1), "reset_prefix_cache": (4, 4)}
    assert result.reason == (
        "answers to 4 of 4 prompts changed (sleep level 1, wake up); stale prefix cache: "
        "4 of 4 damaged answers read prompt tokens from the cache; a fresh cache salt heals 4 of 4; "
        "resetting the prefix cache heals 4 of 4; unseen prompts are right: 1 of 1"
    )
    assert result.ruled_out == ()


def test_unseen_prompts_without_a_baseline_speak_neither_way() -> None:
    """Nobody knows what they were answered before: that is no damage."""
    story = Story()
    unseen, story._unseen = story._unseen, []
    story.baseline().null().sleep(keeps_cache=True).wake().probe(1, warm=damage(ALL))
    story._unseen = unseen
    story.control(Control.FRESH_SALT).control(Control.UNSEEN_PROMPTS).control(Control.RESET_PREFIX_CACHE)
    result = story.judged()
    assert result.cause is Cause.STALE_PREFIX_CACHE
    assert outcomes(result) == {"fresh_salt": (4, 4), "reset_prefix_cache": (4, 4)}


def test_stale_prefix_cache_without_controls() -> None:
    """The probe's own cold pass asks the same prompts under a fresh salt: it is the control."""
    result = stale_prefix_cache().judged()
    assert result.cause is Cause.STALE_PREFIX_CACHE
    [control] = result.controls
    assert (control.control, control.healed, control.asked) == ("fresh_salt", 4, 4)
    assert control.note == "the cold pass of the same probe"


def test_stale_prefix_cache_on_a_server_that_does_not_tell_cached_tokens() -> None:
    """The controls suffice where cached tokens are not reported."""
    result = stale_prefix_cache(tells_cached_tokens=False).control(Control.FRESH_SALT).judged()
    assert result.cause is Cause.STALE_PREFIX_CACHE
    assert "read prompt tokens from the cache" not in result.reason


@pytest.mark.parametrize("control", [Control.FRESH_SALT, Control.UNSEEN_PROMPTS, Control.RESET_PREFIX_CACHE])
def test_one_dissenting_control_clears_the_prefix_cache(control: Control) -> None:
    """If a single control stays bad, the prefix cache cannot be all there is."""
    story = stale_prefix_cache()
    for each in (Control.FRESH_SALT, Control.UNSEEN_PROMPTS, Control.RESET_PREFIX_CACHE):
        story.control(each, damage(["p3", "p4"]) if each is control else None)
    assert story.judged().cause is Cause.UNKNOWN


def test_damage_in_computed_answers_clears_the_prefix_cache() -> None:
    """A damaged answer that read nothing from the cache has another cause, whatever heals it later."""
    story = Story().baseline().null().cycle(1, warm=damage(ALL)).control(Control.FRESH_SALT)
    result = story.judged()
    assert result.cause is Cause.UNKNOWN
    [ruled_out] = result.ruled_out
    assert ruled_out.startswith("stale prefix cache alone: answers computed without it are damaged as well")
    assert ruled_out.endswith("(a fresh salt heals 4 of 4)")


def test_lost_weights_that_a_reload_brings_back() -> None:
    """Cold and unseen prompts are damaged, and loading the weights again heals."""
    story = (
        lost_weights().control(Control.FRESH_SALT, damage(ALL)).control(Control.UNSEEN_PROMPTS, damage(ALL))
    )
    story.control(Control.RESET_PREFIX_CACHE, damage(ALL)).control(Control.RELOAD_WEIGHTS)
    result = story.judged()
    assert result.cause is Cause.LOST_WEIGHTS
    assert result.reason.endswith("lost weights: loading the weights again heals 4 of 4")
    assert outcomes(result)["reload_weights"] == (4, 4)


def test_lost_weights_that_checksums_show() -> None:
    """Changed checksums name lost weights even where nothing can be loaded again."""
    story = Story().baseline().null().checksums({"a": "1", "b": "2", "c": "3"}).sleep().wake()
    story.probe(1, warm=damage(ALL), cold=damage(ALL)).checksums({"a": "1", "b": "9", "d": "4"})
    story.control(Control.FRESH_SALT, damage(ALL))
    result = story.judged()
    assert result.cause is Cause.LOST_WEIGHTS
    assert "the checksums of 3 parameters changed" in result.reason


def test_checksums_after_a_reload_do_not_speak_for_the_damage() -> None:
    """The first look after the transition decides; a later one may follow a reload."""
    story = Story().baseline().null().checksums({"a": "1"}).sleep().wake()
    story.probe(1, warm=damage(ALL), cold=damage(ALL)).checksums({"a": "2"}).checksums({"a": "1"})
    assert story.judged().cause is Cause.LOST_WEIGHTS


def test_checksums_before_the_transition_are_the_latest_ones() -> None:
    """A version that cannot tell checksums, then or later, leaves them out of the decision."""
    story = Story().baseline().null().checksums(None).sleep().wake()
    story.probe(1, warm=damage(ALL), cold=damage(ALL)).checksums({"a": "2"})
    assert story.judged().cause is Cause.UNKNOWN


def test_weights_the_script_discards() -> None:
    """Level 2 without a reload loses the weights as documented: the script itself shows it."""
    result = lost_weights(level=2).control(Control.FRESH_SALT, damage(ALL)).judged()
    assert result.cause is Cause.LOST_WEIGHTS
    assert "the script discards the weights (sleep level 2) and does not load them again" in result.reason


def test_weights_the_script_discards_and_reloads() -> None:
    """After the documented recovery the script is no explanation."""
    story = Story().baseline().null().sleep(2).wake().reload().probe(1, warm=damage(ALL), cold=damage(ALL))
    assert story.judged().cause is Cause.UNKNOWN


def test_weights_discarded_by_the_script_but_a_reload_does_not_heal() -> None:
    """If loading them again does not help, discarded weights are not the whole story."""
    story = lost_weights(level=2).control(Control.RELOAD_WEIGHTS, damage(ALL))
    result = story.judged()
    assert result.cause is Cause.UNKNOWN
    assert "lost weights alone: loading them again does not help" in result.ruled_out


def test_unseen_prompts_that_hold_clear_the_weights() -> None:
    """Weights that are lost are lost for every prompt."""
    story = lost_weights().control(Control.FRESH_SALT, damage(ALL)).control(Control.UNSEEN_PROMPTS)
    result = story.control(Control.RELOAD_WEIGHTS).judged()
    assert result.cause is Cause.UNKNOWN
    prefix_cache, weights = result.ruled_out
    assert prefix_cache.endswith("(a fresh salt heals 0 of 4)")
    assert weights == "lost weights: unseen prompts are answered as before"


def test_lost_buffers() -> None:
    """Damage without the cache, unchanged checksums and a reload that does not heal leave the buffers."""
    story = Story().baseline().null().checksums({"a": "1"}).sleep().wake()
    story.probe(1, warm=damage(ALL), cold=damage(ALL)).checksums({"a": "1"})
    story.control(Control.FRESH_SALT, damage(ALL)).control(Control.RELOAD_WEIGHTS, damage(["p0"]))
    result = story.judged()
    assert result.cause is Cause.LOST_BUFFERS
    assert result.reason.endswith(
        "lost buffers: answers computed without the prefix cache are damaged as well; "
        "every weight checksum is unchanged; loading the weights again heals 3 of 4"
    )


def test_unchanged_checksums_alone_do_not_accuse_the_buffers() -> None:
    """Without a reload the damage may be anywhere but in the weights."""
    story = Story().baseline().null().checksums({"a": "1"}).sleep().wake()
    result = story.probe(1, warm=damage(ALL), cold=damage(ALL)).checksums({"a": "1"}).judged()
    assert result.cause is Cause.UNKNOWN
    assert "lost weights: every weight checksum is unchanged" in result.ruled_out


def reloaded_in_vain(
    change: Change,
    *,
    args: tuple[str, ...] = (),
    some: tuple[str, ...] = ALL4,
    buffers: tuple[dict[str, str], dict[str, str]] | None = None,
) -> Story:
    """Damage that neither a fresh salt nor loading the weights again heals, the weights' checksums unchanged.

    ``buffers`` are their checksums before and after.
    """
    bad = damage([*some, "p4"], change)
    was, now = buffers or (None, None)
    story = Story(extra_args=args).baseline().null().checksums({"a": "1"}, buffers=was).sleep().wake()
    story.probe(1, warm=bad, cold=bad).checksums({"a": "1"}, buffers=now)
    story.control(Control.FRESH_SALT, bad).control(Control.UNSEEN_PROMPTS, bad)
    return story.control(Control.RELOAD_WEIGHTS, bad)


def test_buffers_are_decided_by_their_checksums() -> None:
    """Where the engine tells them, lost buffers are those that changed, and not what is left."""
    lost = reloaded_in_vain(garbage(0), buffers=({"rotary": "1"}, {"rotary": "2"})).judged()
    assert lost.cause is Cause.LOST_BUFFERS
    assert lost.reason.endswith("lost buffers: the checksums of 1 buffer changed")
    whole = reloaded_in_vain(garbage(0), buffers=({"rotary": "1"}, {"rotary": "1"})).judged()
    assert whole.cause is Cause.KV_CACHE
    assert "every weight checksum and every buffer's is unchanged" in whole.reason


def test_changed_buffers_that_a_reload_heals_are_buffers_all_the_same() -> None:
    """The weights did not change, so it was not they that loading healed."""
    story = Story().baseline().null().checksums({"a": "1"}, buffers={"b": "1"}).sleep().wake()
    story.probe(1, warm=damage(ALL), cold=damage(ALL)).checksums({"a": "1"}, buffers={"b": "2"})
    story.control(Control.FRESH_SALT, damage(ALL)).control(Control.RELOAD_WEIGHTS)
    assert story.judged().cause is Cause.LOST_BUFFERS


def test_whole_buffers_leave_the_decode_path_to_its_symptoms() -> None:
    """Answers that begin as before were computed from sound keys and values."""
    same = ({"rotary": "1"}, {"rotary": "1"})
    assert reloaded_in_vain(garbage(1), buffers=same).judged().cause is Cause.DECODE_PATH


def test_scales_of_a_quantised_cache_may_be_buffers() -> None:
    """Then the buffers that changed are named for what they are."""
    scales = ({"attn._k_scale": "1"}, {"attn._k_scale": "2"})
    assert reloaded_in_vain(garbage(0), buffers=scales).judged().cause is Cause.KV_SCALES
    more = ({"attn._k_scale": "1", "rotary": "1"}, {"attn._k_scale": "2", "rotary": "2"})
    assert reloaded_in_vain(garbage(0), buffers=more).judged().cause is Cause.LOST_BUFFERS


def test_decode_path_damage_begins_after_the_first_token() -> None:
    """If every answer begins as before, weights and buffers computed the prompt: the damage is later."""
    result = reloaded_in_vain(garbage(1)).judged()
    assert result.cause is Cause.DECODE_PATH
    assert result.reason.endswith("8 of 8 answers computed from the prompt begin as before")
    assert "every weight checksum is unchanged" in result.reason


def test_decode_path_damage_may_spare_prompts() -> None:
    """What serves every prompt damages every prompt: where three of four hold, it is whole."""
    assert reloaded_in_vain(garbage(0), some=("p1",)).judged().cause is Cause.DECODE_PATH
    assert reloaded_in_vain(garbage(0)).judged().cause is Cause.LOST_BUFFERS


@pytest.mark.parametrize("factor", [0.98, 1.5])
def test_scaled_logits_are_decode_path_damage(factor: float) -> None:
    """A factor common to all contrasts is applied to finished logits."""
    assert reloaded_in_vain(scaled(factor)).judged().cause is Cause.DECODE_PATH


def test_a_quantised_cache_accuses_its_scales() -> None:
    """With whole weights, an fp8 KV cache is damaged by what it alone needs."""
    for args in (("--kv-cache-dtype", "fp8"), ("--kv-cache-dtype=fp8_e4m3",)):
        assert reloaded_in_vain(garbage(0), args=args).judged().cause is Cause.KV_SCALES
    assert (
        reloaded_in_vain(garbage(0), args=("--kv-cache-dtype", "auto")).judged().cause is Cause.LOST_BUFFERS
    )


def test_scales_that_a_reload_sets_anew_are_told_from_weights_by_checksums() -> None:
    """Loading the weights heals either: what did not change was not lost."""
    for after, cause in (({"w": "1"}, Cause.KV_SCALES), ({"w": "2"}, Cause.LOST_WEIGHTS)):
        story = Story(extra_args=("--kv-cache-dtype", "fp8")).baseline().checksums({"w": "1"}).null()
        story.sleep().wake().probe(1, warm=damage(ALL), cold=damage(ALL)).checksums(after)
        story.control(Control.UNSEEN_PROMPTS, damage(ALL)).control(Control.RELOAD_WEIGHTS)
        assert story.judged().cause is cause


def test_a_connector_is_not_healed_by_forgetting_the_prefix_cache() -> None:
    """Blocks that come back after a reset come from elsewhere."""
    story = stale_prefix_cache(extra_args=("--kv-transfer-config", "{}"))
    story.control(Control.FRESH_SALT).control(Control.RESET_PREFIX_CACHE, damage(ALL))
    assert story.judged().cause is Cause.KV_CONNECTOR
    healed = stale_prefix_cache(extra_args=("--kv-transfer-config", "{}"))
    healed.control(Control.FRESH_SALT).control(Control.RESET_PREFIX_CACHE)
    assert healed.judged().cause is Cause.STALE_PREFIX_CACHE


def test_controls_of_another_cycle_say_nothing() -> None:
    """A control asked before the damage came cannot have healed it."""
    story = Story().baseline().null().cycle(1).control(Control.RELOAD_WEIGHTS)
    story.cycle(2, warm=damage(ALL), cold=damage(ALL))
    result = story.judged()
    assert result.cause is Cause.UNKNOWN
    assert "reload_weights" not in outcomes(result)


def test_a_request_that_never_returns_accuses_the_scheduler() -> None:
    """Nothing but requests that hang after the transition points to the scheduler or the protocol."""
    result = Story().baseline().null().cycle(1, warm={"p1": failing("hang")}).judged()
    assert result.cause is Cause.SCHEDULER
    result = Story().baseline().null().cycle(1, warm={"p1": failing("connection")}).judged()
    assert result.cause is Cause.SCHEDULER


def test_a_server_error_accuses_nobody() -> None:
    """Errors and timeouts together do not name their cause, nor do errors of every request."""
    changes = {"p1": failing("http", 500), "p2": failing("hang")}
    assert Story().baseline().null().cycle(1, warm=changes).judged().cause is Cause.UNKNOWN
    every = damage(ALL, failing("http", 500))
    assert Story().baseline().null().cycle(1, warm=every, cold=every).judged().cause is Cause.UNKNOWN


def test_single_errors_accuse_the_decode_path() -> None:
    """If some requests fail and all others are answered as before, the model is whole: a row was NaN."""
    result = Story().baseline().null().cycle(1, warm={"p1": failing("http", 500)}).judged()
    assert result.cause is Cause.DECODE_PATH


@pytest.mark.parametrize(
    ("shift", "cause"),
    [(0.9 * GROSS * RESOLUTION, Cause.STALE_PREFIX_CACHE), (10 * GROSS * RESOLUTION, Cause.UNKNOWN)],
)
def test_a_healed_answer_may_round_differently(shift: float, cause: Cause) -> None:
    """Controls run in smaller batches, so equal tokens may carry slightly other log-probabilities."""
    story = stale_prefix_cache().control(Control.FRESH_SALT, damage(["p0"], shifted(shift)))
    assert story.judged().cause is cause


def test_a_failed_control_has_not_healed() -> None:
    """A control request without an answer is asked, not healed."""
    result = stale_prefix_cache().control(Control.FRESH_SALT, {"p0": failing()}).judged()
    assert outcomes(result)["fresh_salt"] == (3, 4)
    assert result.cause is Cause.UNKNOWN


AFFECTED = "answers to 4 of 4 prompts changed (sleep level 1, wake up)"


def unexplained() -> list[tuple[str, Story]]:
    """Stories whose damage no clue explains, one of every kind."""
    cached = stale_prefix_cache().control(Control.FRESH_SALT, damage(["p3"]))
    reset = stale_prefix_cache().control(Control.RESET_PREFIX_CACHE, damage(ALL))
    every = damage(ALL, failing("http", 500))
    unchanged = Story().baseline().null().checksums({"a": "1"}).sleep().wake()
    unchanged.probe(1, warm=damage(ALL), cold=damage(ALL)).checksums({"a": "1"})
    return [
        ("a fresh salt does not heal all", cached),
        ("a reset does not heal and there is no connector", reset),
        ("no request is answered", Story().baseline().null().cycle(1, warm=every, cold=every)),
        ("weights are neither cleared nor accused", lost_weights()),
        ("weights are whole and nothing else is accused", unchanged),
    ]


@pytest.mark.parametrize(
    "story", [story for _, story in unexplained()], ids=[name for name, _ in unexplained()]
)
def test_an_unknown_cause_has_no_reason(story: Story) -> None:
    """Where the cause is not known nothing is said for it."""
    result = story.judged()
    assert result.cause is Cause.UNKNOWN
    assert result.reason == AFFECTED


def test_a_connector_is_accused_with_what_speaks_for_it() -> None:
    """The controls that decided are in the reason."""
    story = stale_prefix_cache(extra_args=("--kv-transfer-config", "{}"))
    story.control(Control.FRESH_SALT).control(Control.RESET_PREFIX_CACHE, damage(ALL))
    assert story.judged().reason == (
        f"{AFFECTED}; kv connector: 4 of 4 damaged answers read prompt tokens from the cache; "
        "a fresh cache salt heals 4 of 4; resetting the prefix cache heals 0 of 4"
    )


def past_the_salt(change: Change) -> Change:
    """The same change to an answer that a connector served although its salt was never used before."""
    return both(change, lambda answer: answer.model_copy(update={"cached_tokens": answer.prompt_tokens}))


def served_past_the_salt(*, scored: Mapping[str, Change] | None = None, args: tuple[str, ...]) -> CellResult:
    """A transition after which warm and cold answers read damaged blocks, and scored ones compute theirs."""
    story = Story(methods=(Method.SCORED,), extra_args=args).baseline().null().sleep(keeps_cache=True).wake()
    cold = damage(ALL, past_the_salt(garbage(0)))
    story.probe(1, warm=damage(ALL), cold=cold, others={Method.SCORED: scored or {}})
    return story.control(Control.FRESH_SALT, cold).control(Control.RESET_PREFIX_CACHE, cold).judged()


def test_a_connector_may_serve_what_no_salt_allows() -> None:
    """Only what goes by the tokens alone has a prompt under a salt that was never used before."""
    result = served_past_the_salt(args=("--kv-transfer-config", "{}"))
    assert result.cause is Cause.KV_CONNECTOR
    assert result.reason == (
        f"{AFFECTED}; kv connector: 4 of 8 damaged answers read their prompt from a cache under a salt "
        "never used before, which only a connector can serve; all 4 that computed it are right"
    )


@pytest.mark.parametrize(
    ("args", "unseen", "cause"),
    [
        (("--kv-transfer-config", "{}"), {}, Cause.KV_CONNECTOR),
        (("--kv-transfer-config", "{}"), damage(ALL), Cause.UNKNOWN),
        ((), {}, Cause.UNKNOWN),
    ],
)
def test_control_questions_show_what_a_connector_serves(
    args: tuple[str, ...], unseen: Mapping[str, Change], cause: Cause
) -> None:
    """Where all that was asked before shared a salt; nothing is in it that unseen prompts could read."""
    story = Story(extra_args=args).baseline().null().sleep(keeps_cache=True).wake()
    story.ask(Role.AFTER, WARM, cycle=1, changes=damage(ALL))
    past = damage(ALL, past_the_salt(garbage(0)))
    story.control(Control.FRESH_SALT, past).control(Control.UNSEEN_PROMPTS, unseen)
    result = story.control(Control.RESET_PREFIX_CACHE, past).judged()
    assert result.cause is cause
    if cause is Cause.KV_CONNECTOR:
        assert "4 control questions read their prompt from a cache under a salt never used" in result.reason


def test_a_connector_is_not_accused_where_computed_answers_are_damaged() -> None:
    """What also damages answers that read nothing is not in what is read."""
    scored = damage(ALL, shifted(0.5))
    assert served_past_the_salt(args=("--kv-transfer-config", "{}"), scored=scored).cause is Cause.UNKNOWN


def test_without_a_connector_nobody_is_accused_of_reads_past_the_salt() -> None:
    """An engine without a connector has no such part."""
    assert served_past_the_salt(args=()).cause is Cause.UNKNOWN


def test_a_single_cached_token_is_a_cached_read() -> None:
    """However little of the prompt came from the cache."""

    def little(answer: Answer) -> Answer:
        return garbage(0)(answer).model_copy(update={"cached_tokens": 1})

    story = Story().baseline().null().sleep(keeps_cache=True).wake().probe(1, warm=damage(ALL, little))
    reason = story.control(Control.FRESH_SALT).judged().reason
    assert "4 of 4 damaged answers read prompt tokens from the cache" in reason


def test_lost_requests_of_two_kinds_accuse_the_scheduler() -> None:
    """Some time out, others find no server: neither came back."""
    changes = {"p1": failing("hang"), "p2": failing("connection")}
    result = Story().baseline().null().cycle(1, warm=changes).judged()
    assert result.cause is Cause.SCHEDULER
    assert result.reason == (
        "answers to 2 of 4 prompts changed (sleep level 1, wake up); scheduler or protocol: "
        "requests that the engine answered before the transition no longer return"
    )


def test_single_errors_are_explained() -> None:
    """The reason says what the errors have in common."""
    result = Story().baseline().null().cycle(1, warm={"p1": failing("http", 500)}).judged()
    assert result.reason == (
        "answers to 1 of 4 prompts changed (sleep level 1, wake up); graph or decode path: "
        "some requests fail with an error, as with NaN logits, and all others are answered as before"
    )


def test_what_is_ruled_out_without_a_control() -> None:
    """Damage in computed answers clears the prefix cache even if no fresh salt was asked."""
    story = Story().baseline().null().sleep().wake()
    story._begin("probe", cycle=1, name="after")
    story.ask(Role.AFTER, WARM, cycle=1, changes=damage(ALL))
    [ruled_out] = story.judged().ruled_out
    assert ruled_out == "stale prefix cache alone: answers computed without it are damaged as well"


def beginning_otherwise(*, warm: int, cold: int) -> Cause | None:
    """The cause when so many answers of a warm and a cold pass differ from their first token on."""
    story = Story().baseline().null().cycle(1)
    story.cycle(2, warm=damage(ALL[:warm]), cold=damage(ALL[:cold]))
    story.control(Control.FRESH_SALT, damage(ALL)).control(Control.RELOAD_WEIGHTS, damage(ALL))
    return story.judged().cause


@pytest.mark.parametrize(
    ("warm", "cold", "cause"),
    [
        (3, 3, Cause.DECODE_PATH),
        (3, 4, Cause.UNKNOWN),
        (4, 4, Cause.UNKNOWN),
        (0, 3, Cause.DECODE_PATH),
        (0, 4, Cause.UNKNOWN),
    ],
)
def test_a_quarter_must_begin_as_before(warm: int, cold: int, cause: Cause) -> None:
    """What serves every prompt damages all: of the answers of damaged passes, and of no others, a quarter."""
    assert beginning_otherwise(warm=warm, cold=cold) is cause


def test_lost_weights_are_told_with_all_that_speaks_for_them() -> None:
    """Checksums, a reload and the script itself, in this order."""
    story = Story().baseline().null().checksums({"a": "1", "b": "2"}).sleep(2).wake()
    story.probe(1, warm=damage(ALL), cold=damage(ALL)).checksums({"a": "1", "b": "9"})
    story.control(Control.RELOAD_WEIGHTS)
    assert story.judged().reason == (
        "answers to 4 of 4 prompts changed (sleep level 2, wake up); lost weights: "
        "the checksums of 1 parameter changed (b); loading the weights again heals 4 of 4; "
        "the script discards the weights (sleep level 2) and does not load them again"
    )


def test_a_fresh_salt_that_stays_bad_is_damage_without_the_cache() -> None:
    """Damaged answers came from the cache, but computing them anew does not heal: the cache is not alone."""
    story = stale_prefix_cache().control(Control.FRESH_SALT, damage(ALL))
    result = story.judged()
    assert result.cause is Cause.UNKNOWN
    [ruled_out] = result.ruled_out
    assert ruled_out == (
        "stale prefix cache alone: answers computed without it are damaged as well "
        "(a fresh salt heals 0 of 4)"
    )


@pytest.mark.parametrize("moment", ["before", "after"])
def test_checksums_at_the_moment_of_the_transition_are_taken_after_it(moment: str) -> None:
    """A look at the very time a transition begins cannot stand for the time before."""
    story = Story().baseline().null().checksums({"a": "1"})
    if moment == "before":
        story.events.pop()
    story.sleep().wake().probe(1, warm=damage(ALL), cold=damage(ALL))
    first = story.evidence().first_transition
    story.tell(WeightChecksums(t=first, step=None, checksums={"a": "9"})).checksums({"a": "9"})
    cause = story.control(Control.FRESH_SALT, damage(ALL)).judged().cause
    assert cause is (Cause.LOST_WEIGHTS if moment == "after" else Cause.UNKNOWN)


def test_unseen_prompts_that_are_damaged_leave_the_cause_open() -> None:
    """A cache that holds nothing of a prompt cannot have spoilt its answer, and nothing else is known."""
    story = stale_prefix_cache().control(Control.FRESH_SALT).control(Control.UNSEEN_PROMPTS, damage(ALL))
    result = story.judged()
    assert result.cause is Cause.UNKNOWN
    assert result.reason == AFFECTED
    assert result.ruled_out == ()


def test_an_encoder_cache_is_known_by_what_forgetting_it_heals() -> None:
    """Computed answers are damaged, whatever the prefix cache holds, until pictures are encoded anew."""
    story = lost_weights().control(Control.FRESH_SALT, damage(ALL)).control(Control.UNSEEN_PROMPTS)
    story.control(Control.RESET_PREFIX_CACHE, damage(ALL)).control(Control.RESET_ENCODER_CACHE)
    result = story.judged()
    assert result.cause is Cause.ENCODER_CACHE
    assert "resetting the picture caches heals 4 of 4" in result.reason


def test_pictures_that_stay_wrong_when_encoded_anew_are_not_the_encoder_cache() -> None:
    """Then what heals next has the word: here the weights."""
    story = lost_weights().control(Control.FRESH_SALT, damage(ALL))
    story.control(Control.RESET_ENCODER_CACHE, damage(ALL)).control(Control.RELOAD_WEIGHTS)
    assert story.judged().cause is Cause.LOST_WEIGHTS

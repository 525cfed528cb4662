"""What a scenario may say: the models accept exactly that, in both directions."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from ruamel.yaml import YAML

from harness.scenario.schema import Scenario
from harness.scenario.script import STEPS, flat_steps
from harness.scenario.steps.asking import ProbeOptions

names = st.from_regex(r"\A[a-z0-9][a-z0-9._-]{0,20}\Z")
probes = st.one_of(
    names.map(lambda name: {"probe": name}),
    st.fixed_dictionaries(
        {
            "probe": st.fixed_dictionaries(
                {"name": names},
                optional={
                    "evidence": st.lists(
                        st.sampled_from(["rehit", "cold", "scored", "sampled", "unseen"]), unique=True
                    ).map(lambda others: ["warm", *others]),
                    "concurrency": st.one_of(
                        st.integers(1, 64), st.lists(st.integers(1, 64), min_size=1, max_size=3)
                    ),
                },
            )
        }
    ),
)
ADAPTERS = st.sampled_from(["first", "second"])
MODES = st.sampled_from([None, "abort", "wait", "keep"])
OPTIONS: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "sleep": st.fixed_dictionaries({"level": st.sampled_from([0, 1, 2])}, optional={"mode": MODES}),
    "wake_up": st.fixed_dictionaries(
        {"tags": st.lists(st.sampled_from(["weights", "kv_cache", "scheduling"]), unique=True)}
    ),
    "pause": st.fixed_dictionaries({"mode": MODES, "clear_cache": st.sampled_from([None, True, False])}),
    "resume": st.just({}),
    "release_kv_cache_memory": st.fixed_dictionaries({"must_fail": st.booleans()}),
    "reload_weights": st.fixed_dictionaries({"weights": st.sampled_from(["own", "other"])}),
    "init_weight_transfer": st.just({}),
    "start_weight_update": st.fixed_dictionaries({"must_fail": st.booleans()}),
    "update_weights": st.fixed_dictionaries(
        {
            "weights": st.sampled_from(["own", "other"]),
            "chunk": st.integers(1, 3),
            "chunks": st.integers(3, 9),
        },
        optional={"leave_out": st.lists(st.just("*.mlp.*"), max_size=2)},
    ),
    "finish_weight_update": st.fixed_dictionaries({"version": st.none() | names}),
    "load_adapter": st.fixed_dictionaries(
        {"name": names, "adapter": ADAPTERS, "in_place": st.booleans(), "same_path": st.booleans()}
    ),
    "unload_adapter": st.fixed_dictionaries({"name": names}),
    "reset_prefix_cache": st.fixed_dictionaries({"running_requests": st.booleans()}),
    "reset_mm_cache": st.just({}),
    "reset_encoder_cache": st.just({}),
    "abort_requests": st.just({}),
    "null_transition": st.fixed_dictionaries({"passes": st.integers(1, 8)}),
}
"""What may be written behind the key of each step that stands for itself."""

beside = st.builds(
    lambda name, ending: [{"start_requests": {"name": name}}, {ending: {"name": name}}],
    names,
    st.sampled_from(["finish_requests", "cancel_requests"]),
)
steps = st.one_of(
    probes.map(lambda probe: [probe]),
    *(st.builds(lambda given, key: [{key: given}], OPTIONS[key], st.just(key)) for key in OPTIONS),
    beside,
)
several = st.lists(steps, min_size=1, max_size=4).map(lambda lists: list(chain(*lists)))
repetitions = st.builds(lambda times, inner: [{"repeat": times, "steps": inner}], st.integers(1, 5), several)
scenarios: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {
        "name": names,
        "why": st.text(min_size=1),
        "arms": st.dictionaries(
            names, st.fixed_dictionaries({}, optional={"args": st.lists(st.text())}), min_size=1, max_size=3
        ),
        "prompts": st.fixed_dictionaries({"corpus": names}, optional={"count": st.integers(1, 1000)}),
        "script": st.builds(
            lambda first, middle, last: [first, *chain(*middle), last],
            probes,
            st.lists(st.one_of(steps, repetitions), max_size=4),
            probes,
        ),
    },
    optional={
        "default": st.booleans(),
        "requires": st.sampled_from([None, "gpu"]),
        "concurrency": st.integers(1, 64),
    },
)


@given(scenarios)
def test_what_is_written_out_is_read_back_the_same(tree: dict[str, Any]) -> None:
    """A scenario survives being dumped and validated again: nothing is lost on the way into run.json."""
    scenario = Scenario.model_validate(tree)
    assert Scenario.model_validate(scenario.model_dump(mode="json")) == scenario


@given(scenarios, st.text(min_size=1).filter(lambda key: key not in Scenario.model_fields))
def test_an_unknown_key_is_never_ignored(tree: dict[str, Any], key: str) -> None:
    """A key nobody knows is a mistake, whatever it is."""
    with pytest.raises(ValidationError):
        Scenario.model_validate({**tree, key: 1})


@given(scenarios, st.integers().filter(lambda level: level not in {0, 1, 2}))
def test_an_impossible_level_is_refused(tree: dict[str, Any], level: int) -> None:
    """The sleep levels vLLM knows are 0, 1 and 2."""
    script = [*tree["script"][:-1], {"sleep": {"level": level}}, tree["script"][-1]]
    with pytest.raises(ValidationError):
        Scenario.model_validate({**tree, "script": script})


def test_every_step_is_tried() -> None:
    """No step is left out of what these tests write."""
    others = {"probe", "concurrently", "start_requests", "finish_requests", "cancel_requests", "repeat"}
    assert set(STEPS) == set(OPTIONS) | others


def test_every_step_is_known_by_its_own_key() -> None:
    """The key that names a step in YAML is a field of its model."""
    assert all(key in model.model_fields for key, model in STEPS.items())


def test_repetitions_do_not_nest() -> None:
    """A cycle is one level deep, so that every answer belongs to exactly one."""
    inner = {"repeat": 2, "steps": [{"probe": "x"}]}
    with pytest.raises(ValidationError, match="repeat cannot stand inside repeat"):
        Scenario.model_validate(minimal(script=[{"probe": "a"}, {"repeat": 2, "steps": [inner]}]))


def test_flags_may_be_written_as_numbers() -> None:
    """``--block-size 64`` needs no quotes in YAML."""
    tree = minimal(arms={"a": {"args": ["--block-size", 64]}})
    assert Scenario.model_validate(tree).arms["a"].args == ("--block-size", "64")


def test_steps_inside_repetitions_are_seen() -> None:
    """The last step counts as last also where a repetition closes the script."""
    script = [{"probe": "a"}, {"repeat": 2, "steps": [{"sleep": {}}, {"wake_up": {}}, {"probe": "b"}]}]
    assert len(list(flat_steps(Scenario.model_validate(minimal(script=script)).script))) == 4


def test_the_example_in_the_readme_of_the_folder_is_valid() -> None:
    """Whoever copies the example has a scenario that loads."""
    text = (Path(__file__).parents[2] / "scenarios" / "README.md").read_text(encoding="utf-8")
    example = text.split("```yaml\n")[1].split("```")[0]
    Scenario.model_validate(YAML(typ="safe", pure=True).load(example))


def minimal(**changes: object) -> dict[str, object]:
    """The shortest scenario, with ``changes``."""
    return {
        "name": "minimal",
        "why": "because",
        "arms": {"a": {}},
        "prompts": {"corpus": "paragraphs"},
        "script": [{"probe": "a"}],
        **changes,
    }


@pytest.mark.parametrize("place", ["scenario", "probe"])
def test_forced_evidence_takes_a_gpu(place: str) -> None:
    """No CPU engine has model runner V2: such a scenario is left out there, not begun."""
    everywhere = ["warm", "forced"]
    tree = {
        "name": "n",
        "why": "w",
        "arms": {"a": {}},
        "prompts": {"corpus": "c"},
        "script": [{"probe": {"name": "baseline", **({"evidence": everywhere} if place == "probe" else {})}}],
        **({"evidence": everywhere} if place == "scenario" else {}),
    }
    with pytest.raises(ValidationError, match="requires: gpu"):
        Scenario.model_validate(tree)
    assert "forced" in Scenario.model_validate({**tree, "requires": "gpu"}).all_evidence


def test_a_baseline_without_answers_is_refused() -> None:
    """Scoring needs the baseline's own tokens: a baseline that only scores has none."""
    tree = {
        "name": "n",
        "why": "w",
        "arms": {"a": {}},
        "prompts": {"corpus": "c"},
        "evidence": ["scored"],
        "script": [{"probe": "baseline"}],
    }
    with pytest.raises(ValidationError, match="warm, rehit or cold"):
        Scenario.model_validate(tree)


def test_evidence_named_twice_is_refused() -> None:
    """Asking the same twice in a row under the same conditions is a slip of the pen."""
    with pytest.raises(ValidationError, match="named once"):
        ProbeOptions(name="p", evidence=("warm", "warm"))


HELD = {"start_requests": {"name": "held"}}
ENDED = {"finish_requests": {"name": "held"}}


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([HELD], "left running at the end of the script: finish or cancel held"),
        ([ENDED], "no requests 'held' run here"),
        ([HELD, HELD, ENDED], "started while they still run"),
        ([HELD, ENDED, {"cancel_requests": {"name": "held"}}], "no requests 'held' run here"),
        ([HELD, {"null_transition": {}}, ENDED], "null transition must change nothing"),
        ([{"repeat": 2, "steps": [HELD, {"sleep": {}}]}], "left running at the end of the repeat"),
        ([HELD, {"repeat": 2, "steps": [ENDED]}], "no requests 'held' run here"),
        ([{"start_requests": {"name": "held", "count": 17}}, ENDED], "there are only 16 prompts"),
    ],
)
def test_what_is_started_must_end(steps: list[object], message: str) -> None:
    """Requests that nobody waits for, or that were never sent, are mistakes found before anything starts."""
    with pytest.raises(ValidationError, match=message):
        Scenario.model_validate(minimal(script=[{"probe": "a"}, *steps, {"probe": "b"}]))


def test_requests_may_end_by_either_step_and_begin_again() -> None:
    """A name is free again after its end."""
    steps = [HELD, {"cancel_requests": {"name": "held"}}, HELD, ENDED, {"repeat": 2, "steps": [HELD, ENDED]}]
    Scenario.model_validate(minimal(script=[{"probe": "a"}, *steps, {"probe": "b"}]))

"""Scripts whose steps do not fit each other are refused with file, line and column."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import ScenarioError
from harness.scenario.loader import load_scenario

HEAD = """\
name: example
why: something could go wrong
arms: {on: {}}
prompts: {corpus: paragraphs, count: 2}
script:
  - probe: base
"""
FINISHED = "  - finish_requests: {name: r}\n  - probe: after\n"


def load(folder: Path, steps: str) -> None:
    """Load a scenario whose script goes on with ``steps``, written with two spaces before each."""
    path = folder / "example.yaml"
    path.write_text(HEAD + steps, encoding="utf-8")
    load_scenario(path)


@pytest.mark.parametrize(
    "steps",
    [
        """\
  - load_adapter: {name: x, adapter: first}
  - probe: {name: first, adapter: x, baseline: true, differs_from: [base]}
  - null_transition: {like: first}
  - sleep: {level: 1}
  - wake_up: {}
  - probe: still-base
  - probe: {name: still-first, adapter: x, same_as: first}
""",
        """\
  - reload_weights: {weights: other}
  - probe: {name: other, baseline: true}
  - reload_weights: {}
  - probe: own-again
""",
        """\
  - reload_weights: {weights: missing, must_fail: true}
  - probe: after
""",
        """\
  - load_adapter: {name: x, adapter: first}
  - probe: {name: first, adapter: x, baseline: true}
  - load_adapter: {name: x, adapter: second, in_place: true}
  - probe: {name: second, adapter: x, baseline: true}
  - repeat: 3
    steps:
      - load_adapter: {name: x, adapter: first, in_place: true}
      - probe: {name: first-again, adapter: x, same_as: first}
      - load_adapter: {name: x, adapter: second, in_place: true}
      - probe: {name: second-again, adapter: x, same_as: second}
""",
        """\
  - load_adapter: {name: x, adapter: first}
  - probe: {name: first, adapter: x, baseline: true}
  - repeat: 2
    steps:
      - start_requests: {name: adapted, adapter: x, same_as: first}
      - start_requests: {name: plain}
      - sleep: {mode: keep}
      - wake_up: {}
      - finish_requests: {name: adapted}
      - cancel_requests: {name: plain}
      - probe: after
""",
        """\
  - sleep: {level: 1}
  - start_requests: {name: r}
  - wake_up: {tags: [weights]}
  - wake_up: {tags: [weights, kv_cache]}
  - finish_requests: {name: r}
  - pause: {}
  - wake_up: {}
  - null_transition: {by: idle}
  - probe: p
""",
        """\
  - load_adapter: {name: x, adapter: first}
  - start_requests: {name: r, adapter: x}
  - finish_requests: {name: r, expect: ended}
  - probe: after
""",
        """\
  - finish_weight_update: {must_fail: true}
  - start_weight_update: {}
  - update_weights: {weights: other, chunk: 2, chunks: 3}
  - update_weights: {weights: missing, must_fail: true}
  - start_weight_update: {}
  - update_weights: {weights: other}
  - finish_weight_update: {version: v1}
  - probe: {name: other, baseline: true}
  - start_weight_update: {}
  - update_weights: {weights: own}
  - finish_weight_update: {must_fail: true}
  - probe: {name: still-other, same_as: other}
  - start_weight_update: {}
  - finish_weight_update: {}
  - probe: {name: other-still, same_as: other}
""",
    ],
)
def test_scripts_that_fit_are_read(tmp_path: Path, steps: str) -> None:
    """Adapters and weights that are loaded can be asked, and compared with their own baselines."""
    load(tmp_path, steps)


@pytest.mark.parametrize(
    ("steps", "place", "reason"),
    [
        ("  - probe: {name: p, adapter: x}\n", "7:22", "no adapter is loaded as 'x'"),
        (
            "  - load_adapter: {name: x, adapter: first}\n  - probe: {name: p, adapter: x}\n",
            "8:5",
            "it asks the first adapter with the model's own weights, and 'base' asked the base model",
        ),
        (
            "  - load_adapter: {name: x, adapter: first}\n  - probe: {name: p, adapter: x, same_as: q}\n",
            "8:34",
            "'q' is no earlier baseline (there are: base)",
        ),
        ("  - reload_weights: {weights: other}\n  - probe: p\n", "8:5", "the model's other weights"),
        ("  - probe: {name: base, baseline: true}\n", "7:5", "'base' is the name of an earlier baseline"),
        (
            "  - repeat: 2\n    steps:\n      - probe: {name: again, baseline: true}\n",
            "9:9",
            "a baseline cannot be repeated",
        ),
        ("  - probe: {name: p, differs_from: [q]}\n", "7:22", "'q' is no earlier baseline"),
        ("  - null_transition: {like: q}\n", "7:23", "'q' is no earlier baseline"),
        ("  - unload_adapter: {name: x}\n  - probe: p\n", "7:22", "no adapter is loaded as 'x'"),
        ("  - start_requests: {name: r, adapter: x}\n" + FINISHED, "7:31", "no adapter is loaded as 'x'"),
        ("  - start_requests: {name: r, same_as: q}\n" + FINISHED, "7:31", "'q' is no earlier baseline"),
        (
            "  - load_adapter: {name: x, adapter: first}\n  - start_requests: {name: r, adapter: x}\n"
            + FINISHED,
            "9:5",
            "its requests ask the first adapter with the model's own weights, and 'base' asked the base",
        ),
        (
            """\
  - reload_weights: {weights: other}
  - start_requests: {name: r}
  - finish_requests: {name: r, expect: aborted}
  - probe: {name: p, baseline: true}
""",
            "9:5",
            "its requests ask the base model with the model's other weights",
        ),
        (
            "  - repeat: 2\n    steps:\n      - load_adapter: {name: x, adapter: first}\n  - probe: p\n",
            "9:24",
            "loaded as 'x' already",
        ),
        ("  - sleep: {level: 1}\n  - probe: p\n  - wake_up: {}\n  - probe: q\n", "8:5", "has put to sleep"),
        (
            "  - sleep: {level: 1}\n  - null_transition: {by: idle}\n  - wake_up: {}\n  - probe: p\n",
            "8:5",
            "has put to sleep",
        ),
        ("  - sleep: {level: 0}\n  - probe: p\n", "8:5", "has paused"),
        ("  - start_weight_update: {}\n  - probe: p\n", "8:5", "has left without weights, in an update"),
        ("  - update_weights: {weights: own}\n  - probe: p\n", "7:5", "no update has begun here"),
        (
            """\
  - start_weight_update: {}
  - update_weights: {weights: other}
  - finish_weight_update: {}
  - probe: p
""",
            "10:5",
            "the model's other weights",
        ),
        ("  - pause: {}\n  - probe: p\n  - resume: {}\n  - probe: q\n", "8:5", "has paused"),
        (
            "  - sleep: {}\n  - wake_up: {tags: [weights]}\n  - probe: p\n",
            "9:5",
            "has left asleep in part (kv_cache)",
        ),
        ("  - sleep: {}\n  - resume: {}\n  - probe: p\n", "9:5", "has put to sleep"),
        (
            "  - repeat: 2\n    steps:\n      - probe: p\n      - sleep: {}\n  - wake_up: {}\n  - probe: q\n",
            "9:9",
            "has put to sleep",
        ),
        (
            """\
  - load_adapter: {name: x, adapter: first}
  - probe: {name: x1, adapter: x, baseline: true}
  - unload_adapter: {name: x}
  - null_transition: {like: x1}
""",
            "10:23",
            "not what is loaded here",
        ),
    ],
)
def test_steps_that_do_not_fit_are_refused(tmp_path: Path, steps: str, place: str, reason: str) -> None:
    """Each is pointed at, with what is wrong and what to do."""
    with pytest.raises(ScenarioError) as refused:
        load(tmp_path, steps)
    assert reason in refused.value.cause
    assert refused.value.location.endswith(f"example.yaml:{place}")
    assert refused.value.remedy


@pytest.mark.parametrize(
    ("steps", "reason"),
    [
        ("  - reload_weights: {weights: missing}\n  - probe: p\n", "missing weights cannot be loaded"),
        ("  - update_weights: {weights: missing}\n  - probe: p\n", "missing weights cannot arrive"),
        ("  - update_weights: {weights: own, chunk: 3, chunks: 2}\n  - probe: p\n", "no part 3 of 2"),
        (
            "  - probe: {name: p, baseline: true, same_as: base}\n",
            "a probe is a baseline, or it must equal one",
        ),
    ],
)
def test_options_that_contradict_each_other_are_refused(tmp_path: Path, steps: str, reason: str) -> None:
    """What a single step cannot mean is told without the others."""
    with pytest.raises(ScenarioError, match=reason):
        load(tmp_path, steps)


def test_the_first_probe_is_like_nothing_before(tmp_path: Path) -> None:
    """It asks the model as it was started."""
    path = tmp_path / "example.yaml"
    path.write_text(HEAD.replace("probe: base", "probe: {name: base, adapter: x}"), encoding="utf-8")
    with pytest.raises(ScenarioError, match="the first probe asks the model as it was started"):
        load_scenario(path)


OVERLAP = """\
  - start_requests: {name: r}
  - concurrently:
      - sleep: {level: 1, mode: wait}
      - wake_up: {begins: {while_pending: sleep}}
      - reset_prefix_cache: {begins: {after_first_token: r}}
  - wake_up: {}
  - finish_requests: {name: r, expect: ended}
  - probe: after
"""


def test_what_overlaps_may_go_either_way_and_is_brought_to_one(tmp_path: Path) -> None:
    """A wake-up after it makes sure that the probe is answered."""
    load(tmp_path, OVERLAP)


@pytest.mark.parametrize(
    ("steps", "place", "message"),
    [
        (OVERLAP.replace("  - wake_up: {}\n", ""), "13:5", "put to sleep"),
        (OVERLAP.replace("while_pending: sleep", "while_pending: pause"), "8:5", "must name one call"),
        (
            OVERLAP.replace("while_pending: sleep", "after_first_token: r, while_pending: sleep"),
            "10:19",
            "say one of",
        ),
        (OVERLAP.replace("token: r", "token: q"), "11:39", "no requests 'q' run here"),
        (OVERLAP.replace("sleep: {level", "slep: {level"), "9:9", "not a call that can overlap"),
        (
            "  - sleep: {begins: {after: 1}}\n  - wake_up: {}\n  - probe: after\n",
            "7:13",
            "only a call inside",
        ),
        ("  - sleep: {abandon: {after: 1}}\n  - probe: after\n", "8:5", "put to sleep"),
        (
            "  - sleep: {must_fail: true, abandon: {after: 1}}\n  - probe: after\n",
            "7:5",
            "say one of the two",
        ),
        (
            """\
  - concurrently:
      - reload_weights: {weights: other}
      - reload_weights: {}
  - probe: after
""",
            "10:5",
            "they cannot be equal",
        ),
    ],
)
def test_what_overlaps_and_cannot_be_is_refused_at_its_place(
    tmp_path: Path, steps: str, place: str, message: str
) -> None:
    """File, line and column, before anything starts."""
    with pytest.raises(ScenarioError, match=message) as refused:
        load(tmp_path, steps)
    assert f"example.yaml:{place}" in str(refused.value)

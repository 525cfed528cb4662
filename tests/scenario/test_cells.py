"""From scenario files to cells, and the choice among them."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import ScenarioError, UsageError
from harness.scenario.cells import load_cells, matches, select_cells
from harness.scenario.corpus import load_corpus

SHIPPED = Path(__file__).parents[2] / "scenarios"


def scenario_file(folder: Path, name: str, *, count: int = 1, corpus: str = "words", more: str = "") -> Path:
    """Write a scenario of two arms, and a corpus of three prompts beside it."""
    corpora = folder / "corpora"
    corpora.mkdir(exist_ok=True)
    (corpora / "words.yaml").write_text("".join(f"- {{id: p{i}, text: word {i}}}\n" for i in range(3)))
    path = folder / f"{name}.yaml"
    path.write_text(
        f"name: {name}\nwhy: because\narms: {{a: {{}}, b: {{}}}}\n{more}"
        f"prompts: {{corpus: {corpus}, count: {count}, held_out: 1}}\nscript: [{{probe: x}}]\n"
    )
    return path


def test_a_scenario_expands_into_one_cell_an_arm(tmp_path: Path) -> None:
    """Cells are named after scenario and arm and share the prompts."""
    cells = load_cells([scenario_file(tmp_path, "one", count=2)])
    assert [cell.id for cell in cells] == ["one.a", "one.b"]
    assert [prompt.id for prompt in cells[0].prompts] == ["p0", "p1"]
    assert [prompt.id for prompt in cells[0].held_out] == ["p2"]


def test_only_default_scenarios_run_without_a_path(tmp_path: Path) -> None:
    """``default: true`` marks what runs when nothing is named."""
    scenario_file(tmp_path, "one", more="default: true\n")
    scenario_file(tmp_path, "two")
    assert {cell.scenario.name for cell in load_cells([tmp_path], only_default=True)} == {"one"}


def test_two_scenarios_of_one_name_are_refused(tmp_path: Path) -> None:
    """Cells of the same name would share a folder."""
    first = scenario_file(tmp_path, "one")
    second = tmp_path / "two.yaml"
    second.write_text(first.read_text())
    with pytest.raises(ScenarioError, match="already the name"):
        load_cells([first, second])


def test_a_corpus_that_is_too_small_is_refused(tmp_path: Path) -> None:
    """Asking for more prompts than there are is found before anything starts."""
    with pytest.raises(ScenarioError, match="4 prompts are needed"):
        load_cells([scenario_file(tmp_path, "one", count=3)])


def test_an_unknown_corpus_gets_a_suggestion(tmp_path: Path) -> None:
    """The nearest corpus is named."""
    with pytest.raises(ScenarioError) as caught:
        load_cells([scenario_file(tmp_path, "one", corpus="word")])
    assert "`words`" in caught.value.remedy


@pytest.mark.parametrize(
    "text", ["", "- {id: a}\n", "- {id: A B, text: x}\n", "- [", "- {id: a, text: x}\n" * 2]
)
def test_a_damaged_corpus_is_refused(tmp_path: Path, text: str) -> None:
    """A corpus is a list of prompts with unique ids."""
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(ScenarioError):
        load_corpus("bad", folders=[tmp_path], location="here")


PNG = b"\x89PNG\r\n\x1a\n and so on"


def with_picture(folder: Path, data: bytes | None, name: str = "a.png") -> Path:
    """A scenario whose prompts show a picture."""
    path = scenario_file(folder, "one", corpus="shown")
    corpus = f"- {{id: a, text: x, picture: {name}}}\n- {{id: b, text: x}}\n"
    (folder / "corpora" / "shown.yaml").write_text(corpus)
    if data is not None:
        (folder / "corpora" / name).write_bytes(data)
    return path


def test_a_picture_is_loaded_with_its_prompt(tmp_path: Path) -> None:
    """It lies beside the corpus and becomes a data URL; a prompt without one has none."""
    cell = load_cells([with_picture(tmp_path, PNG)])[0]
    url = cell.prompts[0].picture
    assert url is not None
    kind, _, data = url.partition(";base64,")
    assert (kind, base64.b64decode(data)) == ("data:image/png", PNG)
    assert cell.held_out[0].picture is None


@pytest.mark.parametrize(
    ("data", "name", "says"),
    [
        (None, "a.png", "there is no"),
        (b"GIF89a", "a.png", "is not image/png"),
        (PNG, "a.gif", "not a known kind of picture"),
    ],
)
def test_a_picture_that_cannot_be_shown_is_refused(
    tmp_path: Path, data: bytes | None, name: str, says: str
) -> None:
    """A missing file, one of another kind, one under another name: told where the corpus names it."""
    with pytest.raises(ScenarioError, match=says) as caught:
        load_cells([with_picture(tmp_path, data, name)])
    assert caught.value.location.endswith("shown.yaml:1:20")


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ("evidence: [warm, scored]", "scored evidence"),
        (
            "script: [{probe: x}, {start_requests: {name: r}}, {finish_requests: {name: r}}, {probe: y}]",
            "start_",
        ),
    ],
)
def test_what_takes_token_ids_cannot_show_pictures(tmp_path: Path, more: str, says: str) -> None:
    """Found before anything starts, with what can be asked instead."""
    path = with_picture(tmp_path, PNG)
    text = path.read_text()
    path.write_text(text.partition("script:")[0] + more if more.startswith("script") else f"{text}{more}\n")
    with pytest.raises(ScenarioError, match=f"{says}.*sends token ids"):
        load_cells([path])


def test_the_shipped_scenarios_load() -> None:
    """Every shipped scenario is valid, and the default set holds both prefix-cache scenarios on both arms."""
    assert {cell.id for cell in load_cells([SHIPPED], only_default=True)} >= {
        "prefix-cache-level1.prefix-cache-on",
        "prefix-cache-level1.prefix-cache-off",
        "prefix-cache-level2.prefix-cache-on",
        "prefix-cache-level2.prefix-cache-off",
    }
    load_cells([SHIPPED])


def test_arms_are_chosen_by_name(tmp_path: Path) -> None:
    """``--arm`` keeps that arm of every scenario."""
    cells = load_cells([scenario_file(tmp_path, "one")])
    assert [cell.id for cell in select_cells(cells, arms=["b"])] == ["one.b"]


def test_an_unknown_arm_gets_a_suggestion(tmp_path: Path) -> None:
    """A misspelt arm never runs nothing silently."""
    cells = load_cells([scenario_file(tmp_path, "one")])
    with pytest.raises(UsageError, match="unknown arm 'c'"):
        select_cells(cells, arms=["c"])


def test_nothing_left_is_a_mistake(tmp_path: Path) -> None:
    """An expression no cell matches is an error, not a clean run of no cells."""
    cells = load_cells([scenario_file(tmp_path, "one")])
    with pytest.raises(UsageError, match="no cell is left"):
        select_cells(cells, expression="nowhere")


@pytest.mark.parametrize(
    ("expression", "remedy"),
    [
        ("levl1 and not B", "-k levl1: did you mean 'level1'?"),
        ("prefix-cache-levell", "-k prefix-cache-levell: did you mean 'prefix-cache-level1'?"),
        ("level1 and nowhere", "`sleepwake run --list` shows all cells"),
        ("(level1 and not cache)", "`sleepwake run --list` shows all cells"),
    ],
)
def test_a_word_that_is_in_no_name_gets_a_suggestion(tmp_path: Path, expression: str, remedy: str) -> None:
    """The nearest part of a name; words that are right need none."""
    cells = load_cells([scenario_file(tmp_path, "prefix-cache-level1")])
    with pytest.raises(UsageError) as refused:
        select_cells(cells, expression=expression)
    assert refused.value.remedy == remedy


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("level1", True),
        ("LEVEL1", True),
        ("level2", False),
        ("not level2", True),
        ("level1 and off", False),
        ("level1 and not off", True),
        ("level2 or level1", True),
        ("not (level1 or level2)", False),
        ("(level2 or level1) and on", True),
        ("level2 and off or level1", True),
    ],
)
def test_expressions_read_like_pytests(expression: str, expected: bool) -> None:  # noqa: FBT001 - an expectation
    """``and`` binds tighter than ``or``, ``not`` tightest, as in pytest's ``-k``."""
    assert matches(expression, "prefix-cache-level1.on") is expected


@pytest.mark.parametrize("expression", ["", "and", "a or", "(a", "a)", "a b", "not"])
def test_a_malformed_expression_is_refused(expression: str) -> None:
    """What cannot be understood is not guessed at."""
    with pytest.raises(UsageError, match="-k"):
        matches(expression, "x")


words = st.sampled_from(["level", "on", "zzz"])
expressions = st.recursive(
    words,
    lambda inner: st.one_of(
        inner.map(lambda x: f"not ({x})"),
        st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(lambda t: f"({t[0]}) {t[1]} ({t[2]})"),
    ),
    max_leaves=6,
)


@given(expressions)
def test_expressions_mean_what_python_means(expression: str) -> None:
    """A fully parenthesised expression has the truth value of the same one in Python."""
    text = "level1.on"
    truth = {word: word in text for word in ("level", "on", "zzz")}
    assert matches(expression, text) is bool(eval(expression, {}, truth))  # noqa: S307 - generated from three words


@pytest.mark.parametrize(
    "name", ["../secret.png", "{absolute}/secret.png", "link.png", "below/../../secret.png"]
)
def test_no_picture_from_outside_the_corpus_is_read(tmp_path: Path, name: str) -> None:
    """A corpus may come from anybody: what it shows lies in its own folder, wherever links lead."""
    (tmp_path / "secret.png").write_bytes(PNG)
    path = with_picture(tmp_path, None, name.format(absolute=tmp_path))
    (tmp_path / "corpora" / "link.png").symlink_to(tmp_path / "secret.png")
    (tmp_path / "corpora" / "below").mkdir()
    with pytest.raises(ScenarioError, match="lies outside") as caught:
        load_cells([path])
    assert caught.value.location.endswith("shown.yaml:1:20")


def test_a_corpus_that_is_a_link_to_elsewhere_is_not_read(tmp_path: Path) -> None:
    """A link among the corpora leads to no file of the user's."""
    path = scenario_file(tmp_path, "one", corpus="linked")
    (tmp_path / "secret.yaml").write_text("- {id: a, text: x}\n")
    (tmp_path / "corpora" / "linked.yaml").symlink_to(tmp_path / "secret.yaml")
    with pytest.raises(ScenarioError, match="lies outside"):
        load_cells([path])

"""A user's own prompts, one a line: what is taken, and where a mistake is said to be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import ScenarioError
from harness.scenario.cells import load_cells
from harness.scenario.corpus import Turn
from harness.scenario.prompts_file import _columns, load_prompts
from tests.small_scenario import SCENARIO, write_scenario


def _file(folder: Path, *lines: str) -> Path:
    path = folder / "My Prompts.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_a_line_is_a_text_a_prompt_or_a_chat(tmp_path: Path) -> None:
    """Each is named after its line; empty lines are nothing, and what a request says besides is not used."""
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]
    path = _file(
        tmp_path,
        '"one"',
        "",
        '{"prompt": "two", "temperature": 1}',
        json.dumps({"messages": chat, "model": "m"}),
    )
    one, two, three = load_prompts(path)
    assert [each.id for each in (one, two, three)] == ["line-1", "line-3", "line-4"]
    assert (one.turns, two.turns) == (
        (Turn(role="user", content="one"),),
        (Turn(role="user", content="two"),),
    )
    assert [turn.model_dump() for turn in three.turns] == chat
    assert three.text == "system: Be brief.\nuser: Why?"


def test_parts_of_text_are_one_text(tmp_path: Path) -> None:
    """Clients send a text in parts, too."""
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    path = _file(tmp_path, json.dumps({"messages": [{"role": "user", "content": parts}]}))
    assert load_prompts(path)[0].turns == (Turn(role="user", content="ab"),)


@pytest.mark.parametrize(
    ("line", "column", "message"),
    [
        ("Why is the sky blue?", 1, "not JSON"),
        ('{"prompt": "a" "b"}', 16, "not JSON: Expecting ',' delimiter"),
        ("  17", 3, "neither a text nor an object"),
        ('""', 1, "at least 1 character"),
        ('{"promt": "a"}', 1, "a line has either `prompt` or `messages`"),
        ('{"prompt": "a", "messages": [{"role": "user", "content": "b"}]}', 1, "either `prompt` or"),
        ('{"id": 1, "prompt": ["a"]}', 21, "prompt: Input should be a valid string"),
        ('{"messages": [{"role": "user", "content": "a"}, {"role": "x", "content": "b"}]}', 58, "messages.1"),
        ('{"messages": [{"role": "user"}]}', 15, "messages.0.content: Field required"),
        ('{"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}', 43, "messages.0.content"),
        ('{"messages": [{"role": "assistant", "content": "b"}]}', 1, "the chat ends with an answer"),
        ("[" * 100_000, 1, "not JSON of a kind"),
        ("9" * 5_000, 1, "not JSON of a kind"),
    ],
)  # fmt: skip
def test_a_mistake_is_said_at_its_line_and_column(
    line: str, column: int, message: str, tmp_path: Path
) -> None:
    """The place is that of the value which is wrong, or of what lacks it."""
    path = _file(tmp_path, '"first"', line)
    with pytest.raises(ScenarioError) as caught:
        load_prompts(path)
    assert caught.value.location == f"{path}:2:{column}"
    assert message in str(caught.value)


def test_what_is_no_text_is_said_at_its_column(tmp_path: Path) -> None:
    """A file in another encoding, counted in characters."""
    path = tmp_path / "prompts.jsonl"
    path.write_bytes('"één"\n"ü'.encode() + b'\xe9"')
    with pytest.raises(ScenarioError, match="not UTF-8") as caught:
        load_prompts(path)
    assert caught.value.location.endswith(":2:3")


def test_prompts_are_asked_once(tmp_path: Path) -> None:
    """A second one would be read from the cache within the same pass."""
    with pytest.raises(ScenarioError, match="the same prompt as in line 1") as caught:
        load_prompts(_file(tmp_path, '"a"', '"b"', '{"prompt": "a"}'))
    assert caught.value.location.endswith(":3:1")


@pytest.mark.parametrize(("lines", "message"), [(["", " "], "no prompt"), (None, "no such file")])
def test_a_file_without_prompts_is_refused(lines: list[str] | None, message: str, tmp_path: Path) -> None:
    """Nothing could be asked."""
    path = tmp_path / "none.jsonl" if lines is None else _file(tmp_path, *lines)
    with pytest.raises(ScenarioError, match=message):
        load_prompts(path)


def test_there_is_a_limit(tmp_path: Path) -> None:
    """A whole log would be asked for hours."""
    with pytest.raises(ScenarioError, match="more than 1000 prompts") as caught:
        load_prompts(_file(tmp_path, *(f'"{number}"' for number in range(1001))))
    assert "head -n 1000" in str(caught.value)


def test_scenarios_ask_them_instead_of_their_own(tmp_path: Path) -> None:
    """All of them, a quarter held out at most, under the name of their file."""
    scenario = write_scenario(tmp_path)
    (cell,) = load_cells([scenario], prompts=_file(tmp_path, '"a"', '"b"', '"c"', '"d"'))
    assert [prompt.text for prompt in cell.prompts] == ["a", "b", "c"]
    assert [prompt.text for prompt in cell.held_out] == ["d"]
    assert cell.scenario.prompts.model_dump() == {"corpus": "my-prompts", "count": 3, "held_out": 1}
    (cell,) = load_cells([scenario], prompts=_file(tmp_path, '"a"'))
    assert (len(cell.prompts), len(cell.held_out)) == (1, 0)


def test_a_script_that_sends_more_than_there_are_is_refused(tmp_path: Path) -> None:
    """It would be another scenario without a word."""
    beside = "  - start_requests: {name: r, count: 3}\n  - finish_requests: {name: r}\n  - sleep: {}"
    scenario = write_scenario(tmp_path, SCENARIO.replace("  - sleep: {}", beside))
    with pytest.raises(ScenarioError, match="sends 3 requests at once, and --prompts gives 2"):
        load_cells([scenario], prompts=_file(tmp_path, '"a"', '"b"'))


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=12,
)


@given(value=_JSON, indent=st.sampled_from([", ", ",", " ,  "]))
def test_every_value_is_found_where_it_stands(value: object, indent: str) -> None:
    """Read from its column on, the text gives the value again."""
    text = json.dumps(value, separators=(indent, " : "), ensure_ascii=False)
    places = dict(_columns(text))
    for keys, column in places.items():
        found, _ = json.JSONDecoder().raw_decode(text[column - 1 :])
        inner = value
        for key in keys:
            inner = inner[key]  # type: ignore[index]  # a list or a dictionary, as the key is
        assert found == inner
    assert () in places

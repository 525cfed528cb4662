"""Scenario files: what is wrong is said with file, line and column, before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import ExitCode, ScenarioError
from harness.scenario.loader import find_scenarios, load_scenario

GOOD = """\
name: example
why: something could go wrong
arms:
  on: {args: [--enable-prefix-caching]}
prompts: {corpus: paragraphs, count: 2}
script:
  - probe: baseline
  - sleep: {level: 1}
  - wake_up: {}
  - probe: after-wake
"""


def write(folder: Path, text: str) -> Path:
    """Put a scenario file into ``folder``."""
    path = folder / "example.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def refusal(folder: Path, text: str) -> ScenarioError:
    """The error that loading ``text`` gives."""
    with pytest.raises(ScenarioError) as caught:
        load_scenario(write(folder, text))
    return caught.value


def test_a_good_file_is_read_with_its_defaults(tmp_path: Path) -> None:
    """What a file leaves out has the documented default."""
    scenario = load_scenario(write(tmp_path, GOOD)).scenario
    assert (scenario.name, scenario.concurrency, scenario.sampling.max_tokens) == ("example", 16, 64)
    assert not scenario.default


@pytest.mark.parametrize(
    ("changed", "into", "place", "says"),
    [
        ("concurrency", "concurency: 3\n", "1:1", "extra inputs"),
        ("why: something could go wrong", "why: 3", "2:1", "why: input should be a valid string"),
        ("{level: 1}", "{level: 3}", "8:13", "script.1.sleep.level"),
        ("{level: 1}", "{depth: 1}", "8:13", "script.1.sleep.depth: extra inputs"),
        ("- sleep:", "- slep:", "8:5", "not a step"),
        ("count: 2", "count: many", "5:31", "prompts.count"),
        ("count: 2", "count: 0", "5:31", "prompts.count"),
        ("{args: [--enable-prefix-caching]}", "{args: --enable}", "4:8", "arms.on.args"),
        ("name: example", "name: Exam ple", "1:1", "name"),
        ("  - probe: after-wake\n", "", "1:1", "must end with a probe"),
        ("  - probe: baseline\n", "", "1:1", "must begin with a probe"),
    ],
)
def test_a_mistake_is_located(tmp_path: Path, changed: str, into: str, place: str, says: str) -> None:
    """An unknown key, a wrong type or an impossible value is shown where it stands in the file."""
    text = into + GOOD if changed not in GOOD else GOOD.replace(changed, into)
    error = refusal(tmp_path, text)
    assert error.location == f"{tmp_path / 'example.yaml'}:{place}"
    assert says in str(error).lower()
    assert error.remedy
    assert error.exit_code is ExitCode.USAGE


def test_a_duplicate_key_is_located(tmp_path: Path) -> None:
    """A key that stands twice is refused at its second place: YAML itself would keep only one."""
    error = refusal(tmp_path, GOOD + "why: again\n")
    assert error.location.endswith("example.yaml:11:1")
    assert "duplicate key" in str(error)


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    """The remedy for a missing key is to add it."""
    error = refusal(tmp_path, GOOD.replace("prompts: {corpus: paragraphs, count: 2}\n", ""))
    assert "add `prompts:`" in error.remedy


def test_a_slip_of_the_fingers_gets_a_suggestion(tmp_path: Path) -> None:
    """An unknown key or step close to a known one is answered with the known one."""
    assert "`count`" in refusal(tmp_path, GOOD.replace("count: 2", "cuont: 2")).remedy
    assert "`sleep`" in refusal(tmp_path, GOOD.replace("- sleep:", "- slep:")).remedy


@pytest.mark.parametrize(
    "text", ["", "# only a comment\n", "- a\n- b\n", "just words\n", "name: [\n", "\t\n"]
)
def test_what_is_not_a_scenario_is_refused(tmp_path: Path, text: str) -> None:
    """An empty file, a list, a scalar and broken YAML each give a located error."""
    error = refusal(tmp_path, text)
    assert f"{tmp_path / 'example.yaml'}:" in error.location


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    """Bytes that are no UTF-8 and folders in place of files are refused as errors of ours."""
    path = tmp_path / "example.yaml"
    path.write_bytes(b"name: \xff\xfe")
    with pytest.raises(ScenarioError, match="cannot be read"):
        load_scenario(path)


def test_a_missing_file_gets_the_nearest_name(tmp_path: Path) -> None:
    """A misspelt path is answered with the file that was probably meant."""
    write(tmp_path, GOOD)
    with pytest.raises(ScenarioError) as caught:
        load_scenario(tmp_path / "exmaple.yaml")
    assert str(tmp_path / "example.yaml") in caught.value.remedy


def test_a_folder_stands_for_its_scenarios(tmp_path: Path) -> None:
    """A folder means every YAML file directly inside, in the order of names."""
    for name in ("b.yaml", "a.yml", "notes.txt"):
        (tmp_path / name).touch()
    (tmp_path / "corpora").mkdir()
    assert [path.name for path in find_scenarios([tmp_path])] == ["a.yml", "b.yaml"]


def test_a_folder_without_scenarios_is_refused(tmp_path: Path) -> None:
    """Nothing to run is a mistake in the command, not a clean run."""
    with pytest.raises(ScenarioError, match="no scenario"):
        find_scenarios([tmp_path])

"""Shards of one matrix, run apart and put together."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import JsonValue

from harness.cli import call
from harness.errors import ExitCode, UsageError
from harness.history.integrity import DIGEST, digest_of
from harness.runs.merging import merge
from tests.conftest import leave_undrawn
from tests.fake_vllm.behaviours import Fault, Misbehaviour
from tests.fake_vllm.threads import Served

pytestmark = pytest.mark.cell  # eight of them; test_format_1 merges stored runs

SCENARIO = """\
name: small
why: because
arms: {fourth: {}, first: {}, third: {}, second: {}}
prompts: {corpus: words, count: 2, held_out: 1}
sampling: {max_tokens: 8}
deadlines: {answer: 30}
script:
  - probe: baseline
  - null_transition: {}
  - sleep: {}
  - wake_up: {}
  - probe: after-wake
"""

Edit = Callable[[dict[str, JsonValue]], object]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same corrupt engine asked by one machine, and by three that share the work."""
    folder = tmp_path_factory.mktemp("shards")
    corpora = folder / "scenarios" / "corpora"
    corpora.mkdir(parents=True)
    prompts = (f"- {{id: p{i}, text: {i} {' '.join(['river city music'] * 40)}}}\n" for i in range(3))
    (corpora / "words.yaml").write_text("".join(prompts))
    scenario = folder / "scenarios" / "small.yaml"
    scenario.write_text(SCENARIO)
    served = Served()
    made: dict[str, Path] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLEEPWAKE_CACHE", str(folder / "cache"))
        patch.delenv("GITHUB_ACTIONS", raising=False)
        leave_undrawn(patch)
        url = served.start(Misbehaviour({}, frozenset({Fault.KEEP_PREFIX_CACHE})))
        for name, options in {"whole": [], **{f"{i}": ["--shard", f"{i}/3"] for i in (1, 2, 3)}}.items():
            code = call(["run", str(scenario), "--endpoint", url, "--out", str(folder / name), *options])
            assert code == ExitCode.CORRUPT_OR_DEGRADED
            made[name] = (folder / name / "latest").resolve()
        out = folder / "merged"
        assert call(["merge", *(str(made[i]) for i in "231"), "--out", str(out)]) == code
        made["merged"] = (out / "latest").resolve()
    served.stop()
    return made


def judged(run: Path) -> dict[str, JsonValue]:
    """``verdict.json`` without its name and its times."""
    verdict: dict[str, JsonValue] = json.loads((run / "verdict.json").read_text())
    cells = verdict["cells"]
    assert isinstance(cells, list)
    for each in (verdict, *cells):
        assert isinstance(each, dict)
        del each["milliseconds"]
    return {**verdict, "run": ""}


def without_numbers(text: str, *, of: Path) -> str:
    """A rendering with every number, and so every time, taken out."""
    return re.sub(r"[\d.,T:+-]*\d(?: (?:m?s|min)\b)?", "#", text.replace(of.name, "RUN"))


def test_the_merged_verdict_is_that_of_one_machine(runs: dict[str, Path]) -> None:
    """Cells in the order of the matrix, findings and their order, causes and witnesses: all the same."""
    whole = judged(runs["whole"])
    assert judged(runs["merged"]) == whole
    cells = whole["cells"]
    assert isinstance(cells, list)
    assert [cell["arm"] for cell in cells if isinstance(cell, dict)] == ["fourth", "first", "third", "second"]
    assert all(cell["findings"] for cell in cells if isinstance(cell, dict))


@pytest.mark.parametrize("file", ["junit.xml", "summary.md"])
def test_the_merged_reports_are_those_of_one_machine(runs: dict[str, Path], file: str) -> None:
    """But for times, which are no machine's twice, what people and other programs read is the same."""
    whole, merged = ((runs[name] / file).read_text() for name in ("whole", "merged"))
    time = whole.partition("| time |")[0], merged.partition("| time |")[0]
    assert without_numbers(time[0], of=runs["whole"]) == without_numbers(time[1], of=runs["merged"])


def test_the_page_shows_every_cell_of_the_matrix(runs: dict[str, Path]) -> None:
    """The merged page has the same cells with the same verdicts in the same places."""
    tiles = [
        re.findall(r'class="tile \w+" href="[^"]+"', (runs[name] / "report.html").read_text())
        for name in ("whole", "merged")
    ]
    assert len(tiles[0]) == 4
    assert tiles[0] == tiles[1]


def test_the_merged_run_says_where_each_shard_ran(runs: dict[str, Path]) -> None:
    """Machines and times of the shards are kept, and the times add up."""
    merged, *shards = (json.loads((runs[name] / "run.json").read_text()) for name in ("merged", *"123"))
    assert [told["run"] for told in merged["shards"]] == [told["run"] for told in shards]
    assert all(told["machine"] == shards[0]["machine"] for told in merged["shards"])
    verdicts = [json.loads((runs[name] / "verdict.json").read_text()) for name in ("merged", *"123")]
    wholes = [sum(verdict["milliseconds"].values()) for verdict in verdicts]
    assert wholes[0] == sum(wholes[1:])


def edited(run: Path, folder: Path, edit: Edit) -> Path:
    """A copy of ``run`` whose ``run.json`` was written so: its digest is that of what it says."""
    copy = folder / f"edited-{run.parent.name}"
    shutil.copytree(run, copy)
    description = json.loads((copy / "run.json").read_text())
    edit(description)
    description[DIGEST] = digest_of(description)
    (copy / "run.json").write_text(json.dumps(description))
    return copy


REFUSED: dict[str, tuple[Edit, str]] = {
    "version": (lambda told: told.update(sleepwake="0.0.1"), "another version of sleepwake"),
    "matrix": (lambda told: told["shard"].update(matrix=["a", "b"]), "another matrix of cells"),  # type: ignore[union-attr]
    "number": (lambda told: told["shard"].update(of=4), "another number of shards"),  # type: ignore[union-attr]
    "fault": (lambda told: told.update(fault="lose-weights"), "other options"),
    "whole run": (lambda told: told.pop("shard"), "not run with --shard"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_a_shard_of_the_same_matrix_is_refused(
    runs: dict[str, Path], tmp_path: Path, name: str
) -> None:
    """It is said what is different, and nothing is written."""
    edit, message = REFUSED[name]
    strange = edited(runs["2"], tmp_path, edit)
    with pytest.raises(UsageError, match=message):
        merge([runs["1"], strange, runs["3"]], out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_same_shard_twice_is_refused(runs: dict[str, Path], tmp_path: Path) -> None:
    """One cell would have two verdicts."""
    with pytest.raises(UsageError, match="remove one of them"):
        merge([runs["1"], runs["2"], runs["2"]], out=tmp_path / "out")


def test_a_missing_shard_is_named(runs: dict[str, Path], tmp_path: Path) -> None:
    """A merged run never looks whole when a part of the matrix is not there."""
    with pytest.raises(UsageError, match="shard 3/3 as well"):
        merge([runs["1"], runs["2"]], out=tmp_path / "out")

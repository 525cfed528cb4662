"""What the process behind a pytest session answers; what pytest makes of it, test_pytest_plugin.py holds."""

from __future__ import annotations

from pathlib import Path

from pydantic import JsonValue

from harness import pytest_session
from tests.fake_vllm.behaviours import Fault, Misbehaviour
from tests.fake_vllm.threads import Served


def run(folder: Path, endpoint: str) -> dict[str, JsonValue]:
    """Have it run the only cell there is."""
    scenario = str(folder / "scenarios" / "small.yaml")
    return dict(pytest_session._run([scenario], ["small.only"], {"endpoint": endpoint}))


def test_of_a_clean_cell_there_is_nothing_to_tell(here: Path, served: Served) -> None:
    """All that is said is where the report is."""
    answer = run(here, served.start())
    assert answer == {"outcomes": {"small.only": {}}, "report": answer["report"]}
    assert Path(str(answer["report"])).is_file()


def test_a_corrupt_cell_is_told_with_its_cause(here: Path, served: Served) -> None:
    """The verdict in words, the cause, and some of the findings."""
    answer = run(here, served.start(Misbehaviour({}, frozenset({Fault.KEEP_PREFIX_CACHE}))))
    outcomes = answer["outcomes"]
    assert isinstance(outcomes, dict)
    outcome = outcomes["small.only"]
    assert isinstance(outcome, dict)
    verdict, cause, *findings = str(outcome["failure"]).splitlines()
    assert verdict.startswith("small.only: corrupt: ")
    assert cause == "cause: stale prefix cache"
    assert findings

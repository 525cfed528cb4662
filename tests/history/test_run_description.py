"""``run.json`` as it is read and written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import JsonValue

from harness.errors import HistoryError
from harness.history.run_description import (
    DescribedCell,
    DescribedScenario,
    DescribedServer,
    RunDescription,
    read_description,
    write_description,
)
from harness.history.time_parts import TimeSpent

STORED = Path(__file__).parents[1] / "data" / "runs" / "format-1"


def stored(folder: Path, content: JsonValue) -> Path:
    """A run directory with this ``run.json``."""
    (folder / "run.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


@pytest.mark.parametrize("name", ["clean", "corrupt", "interrupted"])
def test_reading_and_writing_changes_nothing(tmp_path: Path, name: str) -> None:
    """What a stored run says is written again key by key, those of its scenario included."""
    write_description(tmp_path, read_description(STORED / name))
    before, after = (
        json.loads((folder / "run.json").read_text(encoding="utf-8")) for folder in (STORED / name, tmp_path)
    )
    assert after == before | {"digest": after["digest"]}


def test_what_an_older_version_did_not_write_has_its_default(tmp_path: Path) -> None:
    """A run needs no more than its name and its cells."""
    description = read_description(stored(tmp_path, {"run": "r", "cells": {"s.a": {}}}))
    assert description == RunDescription(run="r", cells={"s.a": DescribedCell()})
    assert description.milliseconds_outside_cells == TimeSpent()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"run": "r", "cells": {}, "fualt": None}, "fualt: Extra inputs are not permitted"),
        ({"run": "r", "cells": {"s.a": {"am": "a"}}}, r"cells\.s\.a\.am: Extra inputs"),
        ({"run": "r", "cells": {}, "machine": {"cores": "many"}}, r"machine\.cores: Input should be"),
        ({"run": "r", "cells": 3}, "cells: Input should be"),
        ({"run": "r", "cells": {}, "format": 2}, "run format 2, this sleepwake reads format 1"),
        ({"cells": {}}, "does not describe a run"),
        ([], "does not describe a run"),
    ],
)
def test_what_is_not_understood_is_refused_and_named(tmp_path: Path, content: JsonValue, says: str) -> None:
    """A key that is overlooked could be the one that decides: the error says where it is."""
    with pytest.raises(HistoryError, match=says):
        read_description(stored(tmp_path, content))


def test_keys_of_a_scenario_belong_to_its_schema(tmp_path: Path) -> None:
    """They are kept whatever they are, for whoever reads scenarios knows what they mean."""
    scenario: JsonValue = {"name": "s", "script": [{"probe": {"name": "p"}}], "new": [1, {"a": None}]}
    content: JsonValue = {"run": "r", "cells": {"s.a": {"scenario": scenario}}}
    description = read_description(stored(tmp_path, content))
    assert description.as_json()["cells"] == {"s.a": {"scenario": scenario}}
    assert description.cells["s.a"].scenario != DescribedScenario(name="s")


def test_releases_are_told_once() -> None:
    """Servers that did not say theirs are left out."""
    servers = {
        name: DescribedServer(vllm_version=version)
        for name, version in (("a", "0.10.0"), ("b", None), ("c", "0.9.2"), ("d", "0.10.0"))
    }
    assert RunDescription(run="r", cells={}, servers=servers).vllm_versions == ("0.10.0", "0.9.2")

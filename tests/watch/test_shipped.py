"""The dashboard and the alert rules that ship: they name metrics that there are."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from harness.check.result import CellResult, Verdict
from harness.watch.metrics import PREFIX, exposition, registry_of
from harness.watch.noticing import Happening
from harness.watch.status import Status

SHIPPED = Path(__file__).parents[2] / "docs" / "watch"


@pytest.fixture
def told() -> set[str]:
    """Every metric that a watch can tell."""
    status = Status(noise_nat=0.1)
    status.take_in(Happening(wake_ups=1), now=1.0)
    result = CellResult(cell="c", scenario="s", arm="a", verdict=Verdict.CLEAN, reason="")
    status.judged(result, now=2.0)
    return set(re.findall(rf"^({PREFIX}\w+)", exposition(registry_of(status)).decode(), flags=re.MULTILINE))


@pytest.mark.parametrize("name", ["grafana-dashboard.json", "alerts.yaml"])
def test_only_metrics_that_there_are_are_asked_for(name: str, told: set[str]) -> None:
    """A dashboard or rule that names another would be silent for ever."""
    named = set(re.findall(rf"{PREFIX}\w+", (SHIPPED / name).read_text(encoding="utf-8")))
    assert named
    assert named <= told


def test_every_metric_is_on_the_dashboard(told: set[str]) -> None:
    """Or in an alert."""
    shown = "".join(path.read_text(encoding="utf-8") for path in SHIPPED.iterdir())
    assert {name for name in told if name not in shown} <= {f"{PREFIX}last_check_timestamp_seconds"}


def test_the_rules_are_rules() -> None:
    """Each has a name of its own, an expression, a severity and words for people."""
    (group,) = YAML(typ="safe").load((SHIPPED / "alerts.yaml").read_text(encoding="utf-8"))["groups"]
    rules = group["rules"]
    assert len({rule["alert"] for rule in rules}) == len(rules)
    for rule in rules:
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert rule["annotations"].keys() == {"summary", "description"}
        assert rule["expr"]


def test_the_dashboard_is_one() -> None:
    """Panels do not overlap, and every query is asked of the chosen data source."""
    board = json.loads((SHIPPED / "grafana-dashboard.json").read_text(encoding="utf-8"))
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        own = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not own & taken
        taken |= own
        assert all(each["datasource"]["uid"] == "${datasource}" for each in panel["targets"])

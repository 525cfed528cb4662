"""What is known about releases."""

from __future__ import annotations

import dataclasses

import pytest

from harness.vllm_api.metrics import MetricsSnapshot
from harness.vllm_api.versions import METRIC_NAMES, Feature, has


@pytest.mark.parametrize(
    ("feature", "version", "expected"),
    [
        (Feature.COLLECTIVE_RPC, "0.10.0", False),
        (Feature.COLLECTIVE_RPC, "0.10.1.post2", False),
        (Feature.COLLECTIVE_RPC, "0.10.2", True),
        (Feature.PAUSE, "0.12.0+cpu", True),
        (Feature.WEIGHT_CHECKER, "v0.31.0", False),
        (Feature.WEIGHT_CHECKER, "1.0", True),
        (Feature.CACHE_SALT, "0.9.2", False),
        (Feature.CACHE_SALT, "0.11.2.dev12+gabcdef", None),
        (Feature.CACHE_SALT, "dev", None),
        (Feature.CACHE_SALT, "0.11.0rc1", None),
    ],
)
def test_releases_are_compared_as_numbers(feature: Feature, version: str, *, expected: bool | None) -> None:
    """Suffixes of a release do not matter; a name that is no release is unknown."""
    assert has(feature, version) is expected


def test_every_feature_has_a_release() -> None:
    """No feature is forgotten in the table."""
    assert all(feature.since for feature in Feature)


def test_every_number_of_a_snapshot_has_names() -> None:
    """All sums of a snapshot come from the table of names; labels, times and a process's start do not."""
    fields = {field.name for field in dataclasses.fields(MetricsSnapshot)}
    told_otherwise = {"sleep_state", "requests_aborted", "started", "timings", "is_changing", "cache_config"}
    assert set(METRIC_NAMES) == fields - told_otherwise

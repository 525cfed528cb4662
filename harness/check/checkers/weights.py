"""Whether the weights are those that their version names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from harness.check import lifecycle_calls
from harness.check.evidence import Evidence
from harness.check.result import Finding, Strength
from harness.check.wording import counted
from harness.history.observations import WeightChecksums


def check(evidence: Evidence) -> Iterator[Finding]:
    """Find looks at which the engine named a version, and had other weights than belong to it.

    They are known by the baseline that was taken of them, and by the first look at the same version.  What a
    reload or a deep sleep has done since the last update is left to others: no version speaks of it.
    """
    first: dict[str, WeightChecksums] = {}
    for look in evidence.recording.weight_checksums:
        version = look.version
        if version is None or not look.checksums or not _is_of_an_update(evidence, look, version):
            continue
        belonging = _of_baseline(evidence, look) or first.setdefault(version, look)
        differing = changed(belonging.checksums or {}, look.checksums)
        if differing:
            yield Finding(
                checker="weights",
                message=(
                    f"/weight_info says {version}, but {counted(len(differing), 'parameter')} of "
                    f"{len(look.checksums)} are not what belongs to it: {', '.join(differing[:3])}"
                    f"{', ...' if len(differing) > 3 else ''}"  # noqa: PLR2004 - as many as a line takes
                ),
                strength=Strength.PROOF,
                evidence={"version": version, "differing": len(differing), "step": look.step},
            )


def _is_of_an_update(evidence: Evidence, look: WeightChecksums, version: str) -> bool:
    """Whether the last that happened to the weights is an update that called them so."""
    update = lifecycle_calls.last_loading(evidence.recording, before=look.t)
    return update is not None and update.parameters.get("weight_version") == version


def _of_baseline(evidence: Evidence, look: WeightChecksums) -> WeightChecksums | None:
    """What was told when the baseline was taken whose weights these ought to be."""
    return next(
        (
            each
            for each in evidence.recording.weight_checksums
            if each.reference == look.reference and each.t < look.t and each.checksums
        ),
        None,
    )


def changed(was: Mapping[str, str], now: Mapping[str, str]) -> tuple[str, ...]:
    """The names whose checksum is another one now, or that only one of the two knows."""
    return tuple(sorted(name for name in was.keys() | now.keys() if was.get(name) != now.get(name)))

"""Flag sets of real deployments, as arms; where each was read stands beside it in ``presets.yaml``."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from harness.errors import UsageError, did_you_mean
from harness.scenario.schema import Arm
from harness.scenario.steps.base import Name
from harness.scenario.yaml_file import load_yaml

_FILE = Path(__file__).with_name("presets.yaml")


class Preset(BaseModel):
    """One deployment's flags, as far as they change how an engine computes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    of: str = Field(description="whose deployment it is")
    source: str = Field(description="where it was read: repository, commit and file")
    left_out: str = Field(default="", description="which of its flags are not taken, and why")
    arm: Arm


_PRESETS = TypeAdapter(tuple[Preset, ...])


def all_presets() -> tuple[Preset, ...]:
    """Every preset there is."""
    return _PRESETS.validate_python(load_yaml(_FILE).data)


def presets_named(names: tuple[str, ...]) -> tuple[Preset, ...]:
    """The presets called ``names``.

    Raises:
        UsageError: there is none of that name.
    """
    known = {preset.name: preset for preset in all_presets()}
    for name in names:
        if name not in known:
            hint = did_you_mean(name, known, otherwise=f"the presets are: {', '.join(known)}")
            raise UsageError(f"--preset: there is no {name!r}", remedy=hint)
    return tuple(known[name] for name in dict.fromkeys(names))

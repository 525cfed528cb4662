"""What the environment asks the plugin to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class PluginError(RuntimeError):
    """A setting the plugin cannot follow; the engine refuses to start.

    Not part of the harness's own error tree, because the harness is not installed where the plugin runs: it
    sees this error as the end of a server's log.
    """


class Discard(StrEnum):
    """What discarded memory holds after waking up.

    A GPU maps fresh pages, whose content is nobody's promise: usually zeros, which make some damage look
    right; sometimes what was there before, which hides it altogether.
    """

    ZERO = "zero"
    POISON = "poison"
    STALE = "stale"


@dataclass(frozen=True)
class Settings:
    """The plugin's part of the environment, checked."""

    cpu_sleep: bool
    discard: Discard
    faults: tuple[str, ...]
    weight_transfer: bool = False

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        """Read the ``SLEEPWAKE_*`` variables; an unset and an empty one mean the same.

        Raises:
            PluginError: A variable has a value that does not exist.
        """
        return cls(
            cpu_sleep=_one_of(environment, "SLEEPWAKE_CPU_SLEEP", ("0", "1")) == "1",
            discard=Discard(_one_of(environment, "SLEEPWAKE_DISCARD", tuple(Discard))),
            faults=_faults(environment.get("SLEEPWAKE_FAULT", "")),
            weight_transfer=_one_of(environment, "SLEEPWAKE_WEIGHT_TRANSFER", ("0", "1")) == "1",
        )


def _faults(value: str) -> tuple[str, ...]:
    """Names between commas, or one ``FILE.py:function``, whose path may have commas."""
    return (value,) if ":" in value else tuple(name for name in value.split(",") if name)


def _one_of(environment: Mapping[str, str], variable: str, valid: tuple[str, ...]) -> str:
    """The value of ``variable``, the first of ``valid`` where it is unset."""
    value = environment.get(variable) or valid[0]
    if value not in valid:
        raise PluginError(f"{variable}={value} does not exist: use one of {', '.join(valid)}")
    return value

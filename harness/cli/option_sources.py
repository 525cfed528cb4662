"""Options from the environment, and where the value of each option came from.

A value on the command line goes before one in the environment, and that before the option's default;
an option that is a list comes whole from one place.  No key of a scenario has an option of the same
meaning; where its values came from :mod:`harness.scenario.sources` tells.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path

from cyclopts import App, ArgumentCollection, Parameter

from harness.errors import UsageError, did_you_mean
from harness.runs.options import environment_source, is_environment, variable_in

OUT_VARIABLE = "SLEEPWAKE_OUT"
PREFIX = "SLEEPWAKE_"
VARIABLES = frozenset(
    f"{PREFIX}{name}"
    for name in (
        # Options of several commands.
        *("RUNTIME", "VLLM", "IMAGE", "ENDPOINT", "MODEL", "VLLM_ARGS", "OUT", "CACHE"),
        # How a server of others is reached.
        *("API_KEY", "HEADERS", "CA_FILE", "WEBHOOK"),
        # How images are built.
        *("IMAGE_BASE", "IMAGE_WHEELS", "IMAGE_CA", "IMAGE_PIP_CONF", "IMAGE_PROXY", "IMAGE_NETWORK"),
        "IMAGE_RECIPES",
        # What servers are told; whoever starts one by hand may have set them.
        *("CPU_SLEEP", "DISCARD", "FAULT", "SERVER", "WEIGHT_TRANSFER"),
        # The switch of sleepwake.guard.
        "GUARD",
    )
)
"""Every environment variable of ours."""

_sources: ContextVar[Mapping[str, str]] = ContextVar("option_sources")


def variable(name: str) -> Parameter:
    """The option can also be given by the environment variable ``name``; an empty one gives nothing."""
    return Parameter(env_var=name, env_var_split=lambda _hint, value, **_: [value] if value else [])


def variable_of_words(name: str, *, option: str) -> Parameter:
    """The same for an option that is a list: words as a shell would take them apart."""

    def words(_hint: object, value: str, *, delimiter: str | None = None) -> list[str]:  # noqa: ARG001 - cyclopts' signature
        try:
            return shlex.split(value)
        except ValueError as error:
            raise UsageError(f"{name}: {error}", remedy="quote it as for a shell") from error

    return Parameter(name=option, env_var=name, env_var_split=words)


def check_variables(environ: Mapping[str, str]) -> None:
    """Return if every variable that looks like one of ours is.

    Raises:
        UsageError: one is not, so that what it was to change would stay as it is.
    """
    services = tuple(_services(environ))
    for name in sorted(environ):
        if name.startswith(PREFIX) and name not in VARIABLES and not name.startswith(services):
            otherwise = f"unset it; the known ones are: {', '.join(sorted(VARIABLES))}"
            raise UsageError(
                f"{name}: there is no such environment variable",
                remedy=did_you_mean(name, VARIABLES, otherwise=otherwise, quoted="{}"),
            )


def _services(environ: Mapping[str, str]) -> Iterator[str]:
    """How variables begin that Kubernetes sets in every container, for each Service of its namespace."""
    for name in environ:
        service = name.removesuffix("_SERVICE_HOST")
        if service != name:
            yield from (f"{service}_SERVICE_", f"{service}_PORT")


def note_sources(_app: App, _commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Remember where each option's value comes from; cyclopts calls this once it has read them all."""
    _sources.set(
        {
            argument.field_info.name: environment_source(str(token.keyword))
            if token.source == "env"
            else "command line"
            for argument in arguments
            for token in argument.tokens[:1]
        }
    )


def given_options() -> Mapping[str, str]:
    """The options that this call was given, by the name of their parameter, and where from."""
    return _sources.get({})


def variables_taken() -> list[str]:
    """The environment variables that gave this call an option."""
    return sorted(map(variable_in, filter(is_environment, given_options().values())))


def runs_folder(default: Path) -> Path:
    """Where commands without ``--out`` look for runs: where ``run`` writes them."""
    return Path(os.environ.get(OUT_VARIABLE) or default)

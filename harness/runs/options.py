"""What a user may ask of a run: one object, from the command line down."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from pydantic import Field, SecretStr, field_validator

from harness.drive.faults import require_fault
from harness.history.run_description import AskedOptions
from harness.reaching import NOTHING_SPECIAL, Access, headers_of
from harness.redaction import without_secret_flags
from harness.runs.finding import REPORTS

_ENVIRONMENT = "environment "


class RunOptions(AskedOptions):
    """What is asked for, and what concerns this call alone.

    A planted fault is resolved here: whoever reads ``fault`` finds it as servers understand it.

    Raises:
        UsageError: there is no such fault.
    """

    out: Path = REPORTS
    keep_servers: bool = False
    exit_first: bool = False
    api_key: SecretStr | None = None
    headers: tuple[SecretStr, ...] = ()
    ca_file: Path | None = None
    client_cert: Path | None = None
    client_key: Path | None = None
    use_proxy: bool = False
    allow_busy: bool = False
    max_sleeps: int | None = None
    executor: str = "local"
    address: str | None = None
    resources: tuple[str, ...] = ()
    """What a cell takes of a node of a cluster, each as ``NAME=AMOUNT``."""
    sources: Mapping[str, str] = Field(default_factory=dict)
    """Where the options that were given came from, by field."""

    @field_validator("fault")
    @classmethod
    def _resolved(cls, fault: str | None) -> str | None:
        return None if fault is None else require_fault(fault)

    @property
    def access(self) -> Access:
        """What the server at the endpoint is shown; the key may be in the environment.

        Raises:
            UsageError: a header cannot be sent.
        """
        if self.endpoint is None:
            return NOTHING_SPECIAL
        given = self.api_key.get_secret_value() if self.api_key else None
        words = tuple(header.get_secret_value() for header in self.headers)
        return Access(
            headers=headers_of(words, api_key=given or _key_in(os.environ)),
            ca_file=self.ca_file,
            client_certificate=self.client_cert,
            client_key=self.client_key,
            proxies=self.use_proxy,
        )

    @property
    def asked(self) -> AskedOptions:
        """What changes what is run, as it is stored: enough to ask for it again, without secrets."""
        asked = {name: getattr(self, name) for name in AskedOptions.model_fields}
        return AskedOptions(**{**asked, "vllm_args": tuple(without_secret_flags(self.vllm_args))})

    @property
    def all_sources(self) -> dict[str, str]:
        """Where the value of every option came from, defaults included."""
        return {
            name: self.sources.get(name)
            or ("default" if getattr(self, name) == option.get_default() else "command line")
            for name, option in type(self).model_fields.items()
            if name != "sources"
        }

    def without_environment(self) -> Self:
        """What was asked for on the command line: a run that is carried on has the rest already."""
        ambient = {
            name
            for name, source in self.sources.items()
            if is_environment(source) and name in AskedOptions.model_fields
        }
        kept = [name for name in type(self).model_fields if name not in ambient]
        return type(self)(**{name: getattr(self, name) for name in kept})

    def of_this_call(self, asked: AskedOptions) -> Self:
        """The same call, for what ``asked`` asks."""
        return self.model_copy(update={name: getattr(asked, name) for name in AskedOptions.model_fields})


def _key_in(environ: Mapping[str, str]) -> str | None:
    """The key that other tools are given for the same server."""
    return next((environ[name] for name in ("OPENAI_API_KEY", "VLLM_API_KEY") if environ.get(name)), None)


def environment_source(variable: str) -> str:
    """How it is told that a value came from the environment."""
    return f"{_ENVIRONMENT}{variable}"


def is_environment(source: str) -> bool:
    """Whether ``source`` is an environment variable."""
    return source.startswith(_ENVIRONMENT)


def variable_in(source: str) -> str:
    """The name of the environment variable that ``source`` is."""
    return source.removeprefix(_ENVIRONMENT)

"""What a build may be given where the public registries are out of reach."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.errors import UsageError
from harness.servers.docker.images.recipe import DOCKERFILE, RECIPES

DEFAULT_BASE = "python:3.11-slim-trixie"

_PREFIX = "SLEEPWAKE_IMAGE_"
_CREDENTIALS_IN_URL = re.compile(r"//[^/@\s]+@")


@dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """Where a build takes things from.

    Attributes:
        base: Reference of the image to build on: Debian 13 or newer, with Python 3.11 or 3.12.
        wheels: A folder of wheels; those that the recipe asks for are preferred to the index's.
        ca: A file of certificates, PEM, that the build trusts besides the public ones.
        pip_conf: A pip configuration file for the build.  It stays in the image.
        proxy: URL of an HTTP proxy for the build.  It does not stay in the image.
        network: The network that the build's steps join; ``host`` reaches what this machine reaches.
        recipes: A folder of recipes, laid out as the shipped one is.
    """

    base: str = DEFAULT_BASE
    wheels: Path | None = None
    ca: Path | None = None
    pip_conf: Path | None = None
    proxy: str | None = None
    network: str = "host"
    recipes: Path = RECIPES

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> BuildOptions:
        """Read each attribute from a variable of its name: ``SLEEPWAKE_IMAGE_BASE``, ``..._PIP_CONF``."""

        def path(name: str) -> Path | None:
            value = environ.get(_PREFIX + name)
            return Path(value).expanduser() if value else None

        return cls(
            base=environ.get(_PREFIX + "BASE") or DEFAULT_BASE,
            wheels=path("WHEELS"),
            ca=path("CA"),
            pip_conf=path("PIP_CONF"),
            proxy=environ.get(_PREFIX + "PROXY") or None,
            network=environ.get(_PREFIX + "NETWORK") or "host",
            recipes=path("RECIPES") or RECIPES,
        )

    def check(self) -> None:
        """Return when everything that is named exists and holds no secret.

        Raises:
            UsageError: It does not.
        """
        if self.wheels is not None and not self.wheels.is_dir():
            raise UsageError(f"{self.wheels} is not a folder of wheels", remedy="give the folder, not a file")
        if not (self.recipes / DOCKERFILE).is_file():
            raise UsageError(f"{self.recipes} holds no recipes", remedy=f"lay it out as {RECIPES} is")
        for path in (self.ca, self.pip_conf):
            if path is not None and not path.is_file():
                raise UsageError(f"{path} is not a file", remedy="check the name")
        if self.ca is not None and b"-----BEGIN CERTIFICATE-----" not in self.ca.read_bytes():
            raise UsageError(f"{self.ca} holds no certificate", remedy="give certificates in PEM form")
        if self.pip_conf is not None and _CREDENTIALS_IN_URL.search(self.pip_conf.read_text("utf-8")):
            raise UsageError(
                f"{self.pip_conf} holds a password, and would stay in the image",
                remedy="give a folder of wheels, or a proxy that signs in",
            )

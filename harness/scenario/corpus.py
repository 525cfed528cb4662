"""Prompt corpora: the YAML files under ``scenarios/corpora``, each a list of chat requests.

A picture that a request shows lies beside its corpus, as a PNG or JPEG file.
"""

from __future__ import annotations

import base64
import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from harness.errors import ScenarioError


class CorpusPrompt(BaseModel):
    """One request as a user would write it; the server's chat template makes a prompt of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(pattern=r"^[a-z0-9-]+$")
    text: str = Field(min_length=1)
    picture: str | None = Field(default=None, min_length=1)
    """An image before the text: in the file a path from the corpus on, once loaded a ``data:`` URL."""


_CORPUS = TypeAdapter(tuple[CorpusPrompt, ...])

_PICTURES: Mapping[str, tuple[str, bytes]] = MappingProxyType(
    {
        ".png": ("image/png", b"\x89PNG\r\n\x1a\n"),
        ".jpg": ("image/jpeg", b"\xff\xd8\xff"),
        ".jpeg": ("image/jpeg", b"\xff\xd8\xff"),
    }
)
"""By the end of its name: what a picture is, and how its file begins."""


def load_corpus(name: str, *, folder: Path, location: str) -> tuple[CorpusPrompt, ...]:
    """Read the corpus ``name`` from ``folder``; ``location`` names who asks for it.

    Raises:
        ScenarioError: there is no such corpus, or it or one of its pictures is damaged.
    """
    path = folder / f"{name}.yaml"
    try:
        tree = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        known = sorted(file.stem for file in folder.glob("*.yaml"))
        nearest = difflib.get_close_matches(name, known, n=1)
        remedy = f"did you mean `{nearest[0]}`?" if nearest else f"the corpora are: {', '.join(known)}"
        raise ScenarioError(f"unknown corpus {name!r}", location=location, remedy=remedy) from error
    except (OSError, UnicodeDecodeError, YAMLError) as error:
        raise ScenarioError(
            f"cannot be read: {error}", location=str(path), remedy="correct the file"
        ) from error
    try:
        corpus = _CORPUS.validate_python(tree)
    except ValidationError as error:
        raise ScenarioError(
            f"not a list of prompts: {error.errors()[0]['msg']}",
            location=str(path),
            remedy="give id and text",
        ) from error
    if len({prompt.id for prompt in corpus}) != len(corpus):
        raise ScenarioError("two prompts have the same id", location=str(path), remedy="make ids unique")
    return tuple(_with_pictures(corpus, path))


def _with_pictures(corpus: tuple[CorpusPrompt, ...], path: Path) -> Iterator[CorpusPrompt]:
    for prompt in corpus:
        if prompt.picture is None:
            yield prompt
        else:
            url = _data_url(path.parent / prompt.picture, location=f"{path}: picture of {prompt.id}")
            yield prompt.model_copy(update={"picture": url})


def _data_url(file: Path, *, location: str) -> str:
    kind, begins = _PICTURES.get(file.suffix, ("", b""))
    if not kind:
        raise ScenarioError(
            f"{file.name} is no picture that is known here",
            location=location,
            remedy=f"name a file that ends in {', '.join(_PICTURES)}",
        )
    try:
        data = file.read_bytes()
    except OSError as error:
        raise ScenarioError(
            f"{file} cannot be read: {error.strerror}", location=location, remedy="put it beside the corpus"
        ) from error
    if not data.startswith(begins):
        raise ScenarioError(f"{file} is not {kind}", location=location, remedy="name the file for what it is")
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"

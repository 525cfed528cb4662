"""Prompt corpora: YAML files in a folder ``corpora``, each a list of chat requests.

A request is a text, or a whole chat.  A picture that it shows lies beside its corpus or below, as a PNG or
JPEG file.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from harness.errors import ScenarioError, did_you_mean
from harness.installation import shipped_scenarios
from harness.scenario.reading import MEBIBYTE, read_file
from harness.scenario.validation import first_mistake
from harness.scenario.yaml_file import YamlFile, load_yaml

CORPORA_FOLDER = "corpora"

CANARIES = "paragraphs"
"""The corpus of those whom no scenario tells what to ask: guards, watches, the fuzzer."""

MOST_PICTURE_BYTES = 16 * MEBIBYTE


class Turn(BaseModel):
    """One message of a chat."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str = Field(min_length=1)


class CorpusPrompt(BaseModel):
    """One request as a user would write it; the server's chat template makes a prompt of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(pattern=r"^[a-z0-9-]+$")
    text: str = ""
    """What reports show; of a chat, all its turns."""
    chat: tuple[Turn, ...] = ()
    """The turns of a chat that is more than one text of a user."""
    picture: str | None = Field(default=None, min_length=1)
    """An image before the text: in the file a path from the corpus on, once loaded a ``data:`` URL."""

    @model_validator(mode="before")
    @classmethod
    def _chats_are_shown(cls, value: object) -> object:
        """A chat without a text of its own is shown turn by turn."""
        if isinstance(value, dict) and isinstance(value.get("chat"), list) and "text" not in value:
            turns = [turn for turn in value["chat"] if isinstance(turn, dict)]
            return {
                **value,
                "text": "\n".join(f"{turn.get('role')}: {turn.get('content')}" for turn in turns),
            }
        return value

    @model_validator(mode="after")
    def _asks_something(self) -> Self:
        if not self.text:
            raise ValueError("a prompt has a `text`, or a `chat`")
        if self.chat and self.picture:
            raise ValueError("a chat has no `picture`")
        return self

    @property
    def turns(self) -> tuple[Turn, ...]:
        """What is sent, without its picture."""
        return self.chat or (Turn(role="user", content=self.text),)


_CORPUS = TypeAdapter(tuple[CorpusPrompt, ...])

_PICTURES: Mapping[str, tuple[str, bytes]] = MappingProxyType(
    {
        ".png": ("image/png", b"\x89PNG\r\n\x1a\n"),
        ".jpg": ("image/jpeg", b"\xff\xd8\xff"),
        ".jpeg": ("image/jpeg", b"\xff\xd8\xff"),
    }
)
"""By the end of its name: what a picture is, and how its file begins."""


def load_canaries() -> tuple[CorpusPrompt, ...]:
    """Read the prompts of those whom no scenario tells what to ask."""
    return load_corpus(CANARIES, folders=[shipped_corpora()], location="the shipped corpora")


def shipped_corpora() -> Path:
    """The folder of the corpora that ship."""
    return shipped_scenarios() / CORPORA_FOLDER


def load_corpus(name: str, *, folders: Sequence[Path], location: str) -> tuple[CorpusPrompt, ...]:
    """Read the corpus ``name`` from the first of ``folders`` that has it; ``location`` names who asks for it.

    Raises:
        ScenarioError: there is no such corpus, or it or one of its pictures is damaged.
    """
    for folder in folders:
        try:
            file = load_yaml(folder / f"{name}.yaml", within=folder)
        except FileNotFoundError:
            continue
        return _corpus(file)
    known = sorted({file.stem for folder in folders for file in folder.glob("*.yaml")})
    remedy = did_you_mean(name, known, otherwise=f"the corpora are: {', '.join(known)}", quoted="`{}`")
    raise ScenarioError(f"unknown corpus {name!r}", location=location, remedy=remedy)


def _corpus(file: YamlFile) -> tuple[CorpusPrompt, ...]:
    try:
        corpus = _CORPUS.validate_python(file.data)
    except ValidationError as error:
        raise first_mistake(
            file, error, remedy=lambda *_: "a corpus is a list of prompts, each with `id:` and `text:`"
        ) from error
    _require_own_ids(corpus, file)
    return tuple(_with_pictures(corpus, file))


def _require_own_ids(corpus: tuple[CorpusPrompt, ...], file: YamlFile) -> None:
    seen: set[str] = set()
    for number, prompt in enumerate(corpus):
        if prompt.id in seen:
            raise ScenarioError(
                f"two prompts have the same id {prompt.id!r}",
                location=file.location((number, "id")),
                remedy="make ids unique",
            )
        seen.add(prompt.id)


def _with_pictures(corpus: tuple[CorpusPrompt, ...], file: YamlFile) -> Iterator[CorpusPrompt]:
    for number, prompt in enumerate(corpus):
        if prompt.picture is None:
            yield prompt
        else:
            url = _data_url(
                Path(prompt.picture), folder=file.path.parent, location=file.location((number, "picture"))
            )
            yield prompt.model_copy(update={"picture": url})


def _data_url(name: Path, *, folder: Path, location: str) -> str:
    kind, begins = _PICTURES.get(name.suffix, ("", b""))
    if not kind:
        raise ScenarioError(
            f"{name} is not a known kind of picture",
            location=location,
            remedy=f"name a file that ends in {', '.join(_PICTURES)}",
        )
    try:
        data = read_file(folder / name, most_bytes=MOST_PICTURE_BYTES, location=location, within=folder)
    except FileNotFoundError as error:
        raise ScenarioError(
            f"there is no {folder / name}", location=location, remedy="put it beside the corpus"
        ) from error
    if not data.startswith(begins):
        raise ScenarioError(
            f"{name} is not {kind}", location=location, remedy="give the file the ending of its kind"
        )
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"

"""Prompt corpora: the YAML files under ``scenarios/corpora``, each a list of chat requests."""

from __future__ import annotations

import difflib
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from harness.errors import ScenarioError


class CorpusPrompt(BaseModel):
    """One request as a user would write it; the server's chat template makes a prompt of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(pattern=r"^[a-z0-9-]+$")
    text: str = Field(min_length=1)


_CORPUS = TypeAdapter(tuple[CorpusPrompt, ...])


def load_corpus(name: str, *, folder: Path, location: str) -> tuple[CorpusPrompt, ...]:
    """Read the corpus ``name`` from ``folder``; ``location`` names who asks for it.

    Raises:
        ScenarioError: there is no such corpus, or it is damaged.
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
    return corpus

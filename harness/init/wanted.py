"""What a user has, as ``sleepwake init`` was told it: checked before anything is written."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from harness.errors import UsageError
from harness.init.presets import Preset, presets_named
from harness.scenario.corpus import CorpusPrompt
from harness.scenario.prompts_file import load_prompts

Ci = Literal["github", "gitlab", "jenkins", "none"]

LLM = "LLM"
"""How a user names an engine that lives in a program of their own."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is tested (exactly one of the first three is set), how deep it sleeps, and where its CI runs."""

    endpoint: str | None = None
    image: str | None = None
    llm: bool = False
    model: str | None = None
    level: Literal[1, 2] = 1
    ci: Ci = "none"
    presets: tuple[Preset, ...] = ()
    prompts: tuple[CorpusPrompt, ...] = ()

    @classmethod
    def of(
        cls,
        *,
        endpoint: str | None,
        image: str | None,
        llm: bool,
        model: str | None,
        level: Literal[1, 2],
        ci: Ci,
        presets: tuple[str, ...],
        prompts: Path | None,
    ) -> Self:
        """Check what was asked for.

        Raises:
            UsageError: it contradicts itself, or an address cannot be used.
            ScenarioError: the file of prompts is wrong.
        """
        given = [
            name for name, value in (("--endpoint", endpoint), ("--image", image), ("--llm", llm)) if value
        ]
        if len(given) != 1:
            told = " and ".join(given) or "nothing"
            raise UsageError(
                f"init: {told} was given", remedy="give one of --endpoint URL, --image REF, --llm"
            )
        if endpoint is not None:
            _require_address(endpoint)
        if image is not None and not re.fullmatch(r"[\w./:@+-]+", image):
            raise UsageError(f"--image: {image!r} is no image", remedy="for example vllm/vllm-openai:v0.11.0")
        if model is not None and not re.fullmatch(r"[^\s'\"`$\\]+", model):
            raise UsageError(f"--model: {model!r} is no model", remedy="for example Qwen/Qwen3-0.6B")
        if presets and endpoint:
            raise UsageError(
                "--preset: a server that runs already has its flags",
                remedy="give --image or --llm, or no preset",
            )
        return cls(
            endpoint=endpoint,
            image=image,
            llm=llm,
            model=model,
            level=level,
            ci=ci,
            presets=presets_named(presets),
            prompts=load_prompts(prompts) if prompts else (),
        )


def told_as(answer: str) -> dict[str, str | bool]:
    """Understand what a user says they have: a URL, an image, or ``LLM``."""
    if "://" in answer:
        return {"endpoint": answer}
    return {"llm": True} if answer.upper() == LLM else {"image": answer}


def _require_address(endpoint: str) -> None:
    if not re.fullmatch(r"https?://[^\s/'\"`$\\]+(/[^\s'\"`$\\]*)?", endpoint):
        raise UsageError(
            f"--endpoint: {endpoint!r} is no address", remedy="for example http://127.0.0.1:8000"
        )
    if "@" in endpoint:
        raise UsageError(
            "--endpoint: an address with a user or a key would be written to files",
            remedy="leave it out; a key goes into the environment, as SLEEPWAKE_API_KEY",
        )

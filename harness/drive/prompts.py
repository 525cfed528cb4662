"""Makes token ids of a cell's prompts, with the server's own tokenizer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from pydantic import JsonValue

from harness.drive.introduction import told
from harness.drive.job import CellJob
from harness.drive.session import OBSERVATION_DEADLINE_S, Limits, Session
from harness.errors import ServerError
from harness.history.passes import Prompt, PromptsPrepared
from harness.scenario.corpus import CorpusPrompt
from harness.vllm_api import lifecycle
from harness.vllm_api.chat import user_message


async def prepare_prompts(session: Session, job: CellJob, configuration: Mapping[str, JsonValue]) -> None:
    """Let the server's own tokenizer and chat template make token ids of the prompts, once."""
    prompts = [
        Prompt(
            id=prompt.id,
            text=prompt.text,
            token_ids=await _token_ids(session, prompt),
            picture=prompt.picture,
            held_out=prompt in job.cell.held_out,
        )
        for prompt in (*_asked(job, configuration), *job.cell.held_out)
    ]
    session.prompts = tuple(prompts)
    model = _model_configuration(job.model.folder)
    session.limits = Limits(
        end_of_sequence=_whole_numbers(model.get("eos_token_id")),
        max_model_len=_whole_number(told(configuration, "model_config", "max_model_len")),
        slots=_whole_number(told(configuration, "scheduler_config", "max_num_seqs")),
    )
    session.recorder.record(
        PromptsPrepared(
            t=session.recorder.now(),
            prompts=session.prompts,
            end_of_sequence_ids=session.limits.end_of_sequence,
            vocabulary_size=_whole_number(model.get("vocab_size")),
            block_size=_whole_number(told(configuration, "cache_config", "block_size")),
        )
    )


def _asked(job: CellJob, configuration: Mapping[str, JsonValue]) -> tuple[CorpusPrompt, ...]:
    """The prompts that every pass asks: the scenario's, and as many more as noise takes.

    An engine that does not say it computes in float32 is taken for one whose answers differ by themselves.
    """
    prompts = job.cell.prompts
    dtype = str(told(configuration, "model_config", "dtype")).removeprefix("torch.")
    missing = 0 if dtype == "float32" else job.prompts_in_noise - len(prompts)
    return (*prompts, *job.cell.further[: max(0, missing)])


async def _token_ids(session: Session, prompt: CorpusPrompt) -> tuple[int, ...]:
    result = await lifecycle.tokenize_chat(
        session.connection.http,
        [turn.model_dump() for turn in prompt.chat] or [user_message(prompt.text, picture=prompt.picture)],
        model=session.served_model_name,
        deadline_s=OBSERVATION_DEADLINE_S,
    )
    ids = _whole_numbers(result.field("tokens"))
    if not ids:
        reason = result.error.message if result.error else "no tokens in the answer"
        raise ServerError(
            f"the server could not tokenize the prompt {prompt.id}: {reason}",
            log_tail=session.server.log_tail(),
            remedy="this scenario needs a model that reads pictures: name one with --model"
            if prompt.picture
            else "the model needs a tokenizer with a chat template",
        )
    return ids


def _model_configuration(folder: Path | None) -> Mapping[str, JsonValue]:
    """The model's own configuration, where the model is a folder on this machine."""
    if folder is None:
        return {}
    configuration: dict[str, JsonValue] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    of_text = configuration.get("text_config")  # of a model that reads more than text
    return {**of_text, **configuration} if isinstance(of_text, dict) else configuration


def _whole_numbers(value: JsonValue) -> tuple[int, ...]:
    values = value if isinstance(value, list) else [value]
    return tuple(each for each in values if isinstance(each, int))


def _whole_number(value: JsonValue) -> int | None:
    return next(iter(_whole_numbers(value)), None)

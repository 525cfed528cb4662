"""The lines that people read first: how to see the bug with ``curl`` alone."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator

from harness.check.result import Witness
from harness.report.bug_report.reproduction import Reproduction, Transition
from harness.report.text import one_line, shorten

_SERVER = "http://127.0.0.1:8000"
_ANSWER_SHOWN = 90
_PROMPT_TOKENS = 600
"""A longer prompt would be most of the issue: the scripts have it."""


def curl_lines(repro: Reproduction, witness: Witness | None) -> list[str]:
    """Return the shell lines: start, ask, each call of the first cycle, ask again.

    None where a picture or a very long prompt is asked, or where nothing was called in between.
    """
    transitions = repro.cycles[0] if repro.cycles else ()
    if repro.picture is not None or len(repro.prompt_token_ids) > _PROMPT_TOKENS or not transitions:
        return []
    model = repro.server.model or "MODEL"
    body = json.dumps(
        {
            "model": model,
            "prompt": list(repro.prompt_token_ids),
            "max_tokens": repro.max_tokens,
            "temperature": repro.temperature,
            "seed": repro.seed,
        }
    )
    ask = f"curl -s {_SERVER}/v1/completions -H 'Content-Type: application/json' -d \"$ask\""
    return [
        f"VLLM_SERVER_DEV_MODE=1 vllm serve {shlex.join([model, *repro.server.args])}",
        f"ask={shlex.quote(body)}",
        f"{ask}  # {_beginning(witness.baseline.text)}" if witness else ask,
        *map(_call, transitions),
        f"{ask}  # {_beginning(witness.after.text)}" if witness else ask,
    ]


def _call(call: Transition) -> str:
    query = "&".join(f"{name}={value}" for name, value in _pairs(call))
    address = shlex.quote(f"{_SERVER}{call.path}{f'?{query}' if query else ''}")
    if call.body is None:
        return f"curl -s -X {call.method} {address}"
    body = shlex.quote(json.dumps(dict(call.body)))
    return f"curl -s -X {call.method} {address} -H 'Content-Type: application/json' -d {body}"


def _pairs(call: Transition) -> Iterator[tuple[str, object]]:
    for name, value in call.query.items():
        for each in value if isinstance(value, list) else [value]:
            yield name, each


def _beginning(answer: str) -> str:
    """How an answer begins, as a shell's comment."""
    return shorten(one_line(answer.strip()), limit=_ANSWER_SHOWN) or "(an empty answer)"

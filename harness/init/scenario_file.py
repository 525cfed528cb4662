"""The scenario that ``sleepwake init`` writes, as text with comments."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from harness.init.wanted import Wanted
from harness.scenario.corpus import CorpusPrompt
from harness.scenario.schema import Arm

CORPUS = "own"
MOST_PROMPTS = 16

_SLEEP = {
    1: """\
      - sleep: {level: 1}
      - wake_up: {}
""",
    2: """\
      - sleep: {level: 2} # throws the weights away
      - wake_up: {tags: [weights]}
      - reload_weights: {}
      - wake_up: {tags: [kv_cache]}
""",
}

_TEXT = """\
# Written by `sleepwake init`. `sleepwake schema scenario` describes every key.
name: after-wake
why: >
  The model that wakes up must be the model that fell asleep.
default: true
arms: # each is one server
{arms}
prompts: {{corpus: {corpus}, count: {count}, held_out: {held_out}}}
sampling: {{temperature: 0, max_tokens: 32}}
evidence: [warm, unseen]
concurrency: 16
script:
  - probe: baseline
  - null_transition: {{evidence: [warm, cold]}} # must change nothing: measures the noise
  - repeat: 2
    steps:
{sleep}      - probe: after-wake
  - probe: {{name: read-again, evidence: [rehit]}} # from blocks that were cached after the wake-up
"""


def scenario_text(wanted: Wanted) -> str:
    """The scenario for what a user has."""
    held_out = min(2, len(wanted.prompts) // 4) if wanted.prompts else 2
    return _TEXT.format(
        arms="\n".join(_arms(wanted)),
        corpus=CORPUS if wanted.prompts else "paragraphs",
        count=len(wanted.prompts) - held_out if wanted.prompts else MOST_PROMPTS,
        held_out=held_out,
        sleep=_SLEEP[wanted.level],
    )


def _arms(wanted: Wanted) -> Iterator[str]:
    if wanted.endpoint:
        yield "  as-it-runs: {} # it has the flags that it was started with"
        return
    if not wanted.presets:
        yield "  prefix-cache-on: {args: [--enable-prefix-caching]} # add the flags of your own servers"
    for preset in wanted.presets:
        yield f"  {preset.name}: {_arm(preset.arm)} # {preset.source}"


def _arm(arm: Arm) -> str:
    parts = []
    if arm.args:
        parts.append(f"args: [{', '.join(map(_word, arm.args))}]")
    if arm.env:
        parts.append(f"env: {json.dumps(arm.env)}")
    return f"{{{', '.join(parts)}}}"


def _word(word: str) -> str:
    return word if word.startswith("--") else json.dumps(word)


def corpus_text(prompts: Sequence[CorpusPrompt]) -> str:
    """A corpus of these prompts; JSON is YAML of a kind that needs no care with quotes."""
    told = (
        {"id": prompt.id, "chat": [turn.model_dump() for turn in prompt.chat]}
        if prompt.chat
        else {"id": prompt.id, "text": prompt.text}
        for prompt in prompts
    )
    return "".join(f"- {json.dumps(each, ensure_ascii=False)}\n" for each in told)

"""A scenario that takes seconds, for tests of the commands and of the pytest plugin."""

from __future__ import annotations

from pathlib import Path

# With a single pass after waking up speed is not judged: how busy the machine is decides no test.
SCENARIO = """\
name: small
why: because
default: true
arms: {only: {args: [--enable-prefix-caching]}}
prompts: {corpus: words, count: 3, held_out: 1}
sampling: {max_tokens: 16}
deadlines: {boot: 100, answer: 30}
script:
  - probe: baseline
  - null_transition: {}
  - sleep: {}
  - wake_up: {}
  - probe: {name: after-wake, evidence: [warm]}
"""

# Prompts as alike as those above get one and the same answer from a real model, which is nothing to compare.
# A real engine that shares its cores with others may take half a minute for an answer.
REAL_PROMPTS = SCENARIO.replace("corpus: words", "corpus: paragraphs").replace("answer: 30", "answer: 300")
"""The same for a server that may be a real one."""


def write_scenario(folder: Path, text: str = SCENARIO) -> Path:
    """Write ``text`` and the corpus it uses to ``scenarios/`` in ``folder``; return the scenario's file."""
    corpora = folder / "scenarios" / "corpora"
    corpora.mkdir(parents=True, exist_ok=True)
    prompts = (f"- {{id: p{number}, text: {number} {'river city music ' * 24}}}\n" for number in range(4))
    (corpora / "words.yaml").write_text("".join(prompts))
    file = corpora.parent / "small.yaml"
    file.write_text(text)
    return file

"""From scenario files to cells: one scenario on one arm, the unit that is run, listed and filtered."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.errors import UsageError, did_you_mean
from harness.scenario.corpus import CORPORA_FOLDER, CorpusPrompt, load_corpus, shipped_corpora
from harness.scenario.loader import ScenarioFile, find_scenarios, load_scenario
from harness.scenario.prompts_file import load_prompts
from harness.scenario.schema import Arm, PromptSet, Scenario
from harness.scenario.script import flat_steps
from harness.scenario.steps.requests import StartRequests

AS_SERVED = "as-served"
"""The arm of a server that somebody else started and that does not tell all of how."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One scenario on one arm, with the prompts it sends."""

    scenario: Scenario
    scenario_path: Path
    arm_name: str
    arm: Arm
    prompts: tuple[CorpusPrompt, ...]
    held_out: tuple[CorpusPrompt, ...]
    further: tuple[CorpusPrompt, ...] = ()
    """What else its corpus has, in order: asked where telling damage from noise takes more prompts."""

    @property
    def id(self) -> str:
        """Names the cell everywhere: in folders, labels, filters and reports."""
        return f"{self.scenario.name}.{self.arm_name}"

    def as_served(self, *, args: tuple[str, ...] = ()) -> Cell:
        """The same questions to a server as it is; ``args`` are flags that it is known to have."""
        return replace(self, arm_name=AS_SERVED, arm=Arm(args=args))


def load_cells(
    paths: Sequence[Path], *, only_default: bool = False, prompts: Path | None = None
) -> list[Cell]:
    """Load the scenarios named by ``paths``, files or folders, and expand them into cells.

    ``prompts`` is a file of prompts that all of them ask instead of their own.

    Raises:
        ScenarioError: a file is wrong, or two scenarios have the same name.
    """
    cells: list[Cell] = []
    seen: dict[str, Path] = {}
    corpora: _Corpora = {}
    own = None if prompts is None else OwnPrompts.of(prompts)
    for path in find_scenarios(paths):
        loaded = load_scenario(path)
        scenario = loaded.scenario
        if scenario.name in seen:
            raise loaded.refusal(
                "name",
                cause=f"{scenario.name!r} is already the name of {seen[scenario.name]}",
                remedy="give every scenario a name of its own",
            )
        seen[scenario.name] = path
        if scenario.default or not only_default:
            cells.extend(_expand(loaded, corpora) if own is None else own.asked_by(loaded))
    return cells


@dataclass(frozen=True, kw_only=True)
class OwnPrompts:
    """The prompts of a user's own file, in place of those that a scenario asks by itself."""

    name: str
    prompts: tuple[CorpusPrompt, ...]

    @classmethod
    def of(cls, file: Path) -> OwnPrompts:
        """Read them; their corpus is called after the file.

        Raises:
            ScenarioError: the file is wrong.
        """
        name = re.sub(r"[^a-z0-9._-]+", "-", file.stem.lower()).strip("-._")
        return cls(name=name[:64] or "prompts", prompts=load_prompts(file))

    def asked_by(self, loaded: ScenarioFile) -> list[Cell]:
        """The cells of a scenario that asks all of these; up to a quarter of them is held out.

        Raises:
            ScenarioError: its script sends more requests at once than there are prompts.
        """
        held_out = min(loaded.scenario.prompts.held_out, len(self.prompts) // 4)
        count = len(self.prompts) - held_out
        steps = flat_steps(loaded.scenario.script)
        sent = max(
            (step.start_requests.count or 0 for step in steps if isinstance(step, StartRequests)), default=0
        )
        if sent > count:
            raise loaded.refusal(
                "script",
                cause=f"it sends {sent} requests at once, and --prompts gives {count}",
                remedy="give more prompts, or leave this scenario out",
            )
        asked = PromptSet(corpus=self.name, count=count, held_out=held_out)
        return _cells(
            loaded.scenario.model_copy(update={"prompts": asked}), loaded.file.path, corpus=self.prompts
        )


_Corpora = dict[tuple[Path, str], tuple[CorpusPrompt, ...]]
"""What has been read, by folder and name: most scenarios ask for the same few corpora."""


def _corpus_of(loaded: ScenarioFile, corpora: _Corpora) -> tuple[CorpusPrompt, ...]:
    folder, name = loaded.file.path.parent / CORPORA_FOLDER, loaded.scenario.prompts.corpus
    if (folder, name) not in corpora:
        corpora[folder, name] = load_corpus(
            name,
            folders=(folder, shipped_corpora()),
            location=loaded.file.location(("prompts", "corpus")),
        )
    return corpora[folder, name]


def _expand(loaded: ScenarioFile, corpora: _Corpora) -> list[Cell]:
    scenario = loaded.scenario
    wanted = scenario.prompts.count + scenario.prompts.held_out
    corpus = _corpus_of(loaded, corpora)
    if len(corpus) < wanted:
        raise loaded.refusal(
            "prompts",
            cause=f"{wanted} prompts are needed (count + held_out), "
            f"{scenario.prompts.corpus!r} has {len(corpus)}",
            remedy="lower `count` or choose a larger corpus",
        )
    asked = corpus[:wanted]
    without = _takes_token_ids(scenario)
    if without and any(prompt.picture for prompt in asked):
        raise loaded.refusal(
            "prompts",
            cause=f"{without} sends token ids, and pictures of {scenario.prompts.corpus!r} have none",
            remedy="ask for warm, rehit, cold, sampled and unseen evidence alone, or choose another corpus",
        )
    usable = tuple(prompt for prompt in corpus[wanted:] if not (without and prompt.picture))
    return _cells(scenario, loaded.file.path, corpus=(*asked, *usable))


def _cells(scenario: Scenario, path: Path, *, corpus: tuple[CorpusPrompt, ...]) -> list[Cell]:
    """One cell an arm; ``corpus`` begins with what is asked and what is held out."""
    count, wanted = scenario.prompts.count, scenario.prompts.count + scenario.prompts.held_out
    return [
        Cell(
            scenario=scenario,
            scenario_path=path,
            arm_name=name,
            arm=arm,
            prompts=corpus[:count],
            held_out=corpus[count:wanted],
            further=corpus[wanted:],
        )
        for name, arm in scenario.arms.items()
    ]


def _takes_token_ids(scenario: Scenario) -> str | None:
    """What of ``scenario`` cannot be asked of a prompt with a picture."""
    named = sorted({"scored", "forced"} & scenario.all_evidence)
    if named:
        return f"{named[0]} evidence"
    started = any(isinstance(step, StartRequests) for step in flat_steps(scenario.script))
    return "start_requests" if started else None


def select_cells(
    cells: Sequence[Cell], *, arms: Sequence[str] = (), expression: str | None = None
) -> list[Cell]:
    """Keep the cells of the named arms whose id matches ``expression``.

    ``expression`` joins parts of cell ids with and, or, not and parentheses, as in pytest's ``-k``.

    Raises:
        UsageError: an arm does not exist, the expression is malformed, or nothing is left.
    """
    known = list(dict.fromkeys(cell.arm_name for cell in cells))
    for arm in arms:
        if arm not in known:
            hint = did_you_mean(arm, known, otherwise=f"the arms are: {', '.join(known)}")
            raise UsageError(f"--arm: unknown arm {arm!r}", remedy=hint)
    kept = [
        cell
        for cell in cells
        if (not arms or cell.arm_name in arms) and (expression is None or matches(expression, cell.id))
    ]
    if not kept:
        raise UsageError("no cell is left to run", remedy=_which_cells(expression or "", cells))
    return kept


_WORD = re.compile(r"\s*(\(|\)|[^\s()]+)")
_OPERATORS = {"and", "or", "not", "(", ")"}


def _which_cells(expression: str, cells: Sequence[Cell]) -> str:
    """What to ask for instead: the nearest of what cells are called, for a word that is in no name."""
    names = [cell.id.lower() for cell in cells]
    parts = {part for name in names for part in (*name.split("."), *re.split(r"[.-]", name))}
    for word in map(str.lower, _WORD.findall(expression)):
        unknown = word not in _OPERATORS and not any(word in name for name in names)
        if unknown and (hint := did_you_mean(word, sorted(parts), otherwise="")):
            return f"-k {word}: {hint}"
    return "`sleepwake run --list` shows all cells"


def matches(expression: str, text: str) -> bool:
    """Whether ``text`` satisfies a ``-k`` expression.

    Raises:
        UsageError: the expression is malformed.
    """
    words = _WORD.findall(expression)
    result, rest = _either(words, text.lower())
    if rest:
        raise _malformed(expression)
    return result


def _either(words: list[str], text: str) -> tuple[bool, list[str]]:
    value, rest = _both(words, text)
    while rest and rest[0] == "or":
        other, rest = _both(rest[1:], text)
        value = value or other
    return value, rest


def _both(words: list[str], text: str) -> tuple[bool, list[str]]:
    value, rest = _single(words, text)
    while rest and rest[0] == "and":
        other, rest = _single(rest[1:], text)
        value = value and other
    return value, rest


def _single(words: list[str], text: str) -> tuple[bool, list[str]]:
    match words:
        case ["not", *rest]:
            value, left = _single(rest, text)
            return not value, left
        case ["(", *rest]:
            value, left = _either(rest, text)
            if left[:1] != [")"]:
                raise _malformed(" ".join(words))
            return value, left[1:]
        case [("and" | "or" | ")"), *_] | []:
            raise _malformed(" ".join(words))
        case [word, *rest]:
            return word.lower() in text, rest
    raise AssertionError(words)


def _malformed(expression: str) -> UsageError:
    return UsageError(
        f"-k: cannot understand {expression!r}", remedy="join parts of cell names with and, or, not, ( )"
    )

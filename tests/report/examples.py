"""Runs built by hand, one of every outcome, small enough to read and rich enough to render."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from harness.check.result import (
    Bound,
    Cause,
    CellResult,
    ControlOutcome,
    Finding,
    NoiseFloor,
    RunResult,
    Side,
    Strength,
    TokenChoice,
    Verdict,
    Witness,
)
from harness.history.events import CellFailed, CellStarted, ServerReady
from harness.history.observations import Call, Observation, StepFinished, StepStarted
from harness.history.packed_logprobs import Logprobs
from harness.history.passes import Answer, CacheCondition, Control, PassStarted, Prompt, Role
from harness.history.recording import Pass, Recording
from harness.history.run_description import ChosenRuntime, DescribedCell, Machine, RunDescription
from harness.report.model import Report, assemble
from tests.history.begun import step_started

HOSTILE = (
    "<script>alert('x')</script> ]]> --> </pre></details> [bold red]b[/] `tick` | pipe **b** @someone\n"
    "\x1b[31mred\x1b[0m \x00 \x07 \x9b31m \u202eright-to-left\u202c \u200b \ufffe \u2028 {{ 7 * 7 }} &lt; http://evil.example"
)
"""Everything a model could answer to break out of a format."""

WORDS = (
    " India", " is", " a", " vast", " country", " in", " South", " Asia", ",", " known", " for", " its",
    " diverse", " culture", " and", " rich", " history", ".", " It", " has", " many", " languages",
    "uary", " the", " Ganges", " river", " people", " of", " land", " melting", " pot", " festivals",
)  # fmt: skip
FIRST_ID = 100
END = 2
TOKEN_TEXTS: Mapping[int, str] = {
    END: "<|im_end|>",
    **{FIRST_ID + index: word for index, word in enumerate(WORDS)},
}
_STUCK = FIRST_ID + WORDS.index("uary")

PROMPTS = tuple(
    Prompt(
        id=name,
        text=f"Write one paragraph about {name.capitalize()} for a traveller who has never been there.",
        token_ids=tuple(range(200, 296)),
        held_out=name == "peru",
    )
    for name in ("india", "rivers", "bread", "glaciers", "peru")
)
_ASKED = [prompt for prompt in PROMPTS if not prompt.held_out]
_GIB = 2**30


def text_of(token_ids: Sequence[int]) -> str:
    """What ``token_ids`` read; the end of a sequence reads nothing."""
    return "".join(TOKEN_TEXTS[token_id] for token_id in token_ids if token_id != END)


def healthy_ids(prompt: int) -> tuple[int, ...]:
    """The undisturbed answer to the prompt of that number: each is different, some are shorter."""
    said = tuple(FIRST_ID + (index * (prompt + 1) + prompt) % 32 for index in range(32 - 5 * prompt))
    return (*said[:-1], END) if prompt else said


def stuck_ids(prompt: int) -> tuple[int, ...]:
    """An answer that follows the healthy one for a few tokens and then repeats itself to the limit."""
    return healthy_ids(prompt)[:prompt] + (_STUCK,) * (32 - prompt)


def answer(
    prompt: str,
    token_ids: tuple[int, ...],
    *,
    pass_number: int,
    t: float,
    cached: int,
    text: str | None = None,
) -> Answer:
    """One answer with plausible log-probabilities: the chosen token far ahead of two others."""
    count = len(token_ids)
    chosen = np.full(count, -0.004, dtype=np.float32)
    others = [[FIRST_ID + (token + 3) % 32, FIRST_ID + (token + 7) % 32] for token in token_ids]
    top_ids = np.array(
        [[token, *rest] for token, rest in zip(token_ids, others, strict=True)], dtype=np.int32
    )
    top_values = np.tile(np.array([-0.004, -5.9, -7.4], dtype=np.float32), (count, 1))
    return Answer(
        t=t,
        pass_number=pass_number,
        prompt=prompt,
        token_ids=token_ids,
        text=text_of(token_ids) if text is None else text,
        finish_reason="length" if count >= 32 else "stop",
        prompt_tokens=96,
        completion_tokens=count,
        cached_tokens=cached,
        logprobs=Logprobs.pack(chosen=chosen, top_ids=top_ids.reshape(count, 3), top_values=top_values),
        seconds=0.8,
    )


class _Builder:
    """Writes a cell's story event by event, on a clock that the story itself advances."""

    def __init__(self, *, cached_reads: bool) -> None:
        self.t = 31.0
        self.cached_reads = cached_reads
        self.steps: list[StepStarted] = []
        self.ends: dict[str, StepFinished] = {}
        self.calls: list[Call] = []
        self.seen: list[Observation] = []
        self.passes: list[Pass] = []

    def step(
        self,
        path: str,
        action: str,
        *,
        cycle: int,
        took: float,
        **options: str | int,
    ) -> None:
        self.steps.append(step_started(t=self.t, step=path, action=action, options=options, cycle=cycle))
        self.t += took
        self.ends[path] = StepFinished(t=self.t, step=path, seconds=took)

    def transition(
        self,
        path: str,
        action: str,
        *,
        cycle: int,
        took: float,
        asleep: bool,
        resident: float,
        **options: int,
    ) -> None:
        self.look(path, "before", asleep=not asleep, resident=2.1 if asleep else resident)
        self.step(path, action, cycle=cycle, took=took, **options)
        self.calls.append(
            Call(
                t=self.t,
                step=path,
                method="POST",
                path=f"/{action}",
                parameters={key: str(value) for key, value in options.items()},
                sends_json=False,
                status=200,
                body={"status": "sleeping" if asleep else "awake"},
                seconds=took,
            )
        )
        self.look(path, "after", asleep=asleep, resident=resident if asleep else 2.1)

    def look(self, path: str, moment: str, *, asleep: bool, resident: float) -> None:
        self.t += 0.05
        self.seen.append(
            Observation(
                t=self.t,
                step=path,
                moment="before" if moment == "before" else "after",
                is_sleeping=asleep,
                sleep_state="weights_offloaded" if asleep else "awake",
                resident_bytes=int(resident * _GIB),
                device_bytes=None,
                memory_by_process={"EngineCore:41": int(resident * _GIB * 0.9)},
                counters={"prefix_cache_hits": 64.0 * len(self.passes)},
            )
        )

    def ask(
        self,
        path: str,
        role: Role,
        cache: CacheCondition,
        *,
        cycle: int = 0,
        stuck: Sequence[str] = (),
        prompts: Sequence[Prompt] = tuple(_ASKED),
        control: Control | None = None,
    ) -> None:
        number = len(self.passes) + 1
        start = PassStarted(
            t=self.t,
            number=number,
            step=path,
            probe="baseline" if role is Role.BASELINE else "after-wake",
            role=role,
            cache=cache,
            concurrency=4,
            cycle=cycle,
            control=control,
            asked=tuple(prompt.id for prompt in prompts),
        )
        warm = self.cached_reads and cache is not CacheCondition.COLD and number > 1
        answers = {}
        for prompt in prompts:
            self.t += 0.3
            index = PROMPTS.index(prompt)
            ids = stuck_ids(index) if prompt.id in stuck else healthy_ids(index)
            answers[prompt.id] = answer(
                prompt.id, ids, pass_number=number, t=self.t, cached=64 if warm else 0
            )
        self.passes.append(Pass(start=start, answers=answers))


def recording(
    scenario: str = "prefix-cache-level1",
    arm: str = "prefix-cache-on",
    *,
    stuck: Sequence[str] = (),
    kept_memory: bool = False,
    fault: str | None = None,
) -> Recording:
    """A whole cell: baseline, null transition, two cycles of sleep and wake, controls when answers differ."""
    story = _Builder(cached_reads=arm.endswith("on"))
    story.step("1", "probe", cycle=0, took=0.0, name="baseline")
    for cache in CacheCondition:
        story.ask("1", Role.BASELINE, cache, prompts=PROMPTS if cache is CacheCondition.COLD else _ASKED)
    story.step("2", "null_transition", cycle=0, took=0.1, by="sleep_level_0")
    for cache in (CacheCondition.WARM, CacheCondition.COLD):
        story.ask("2", Role.NULL, cache)
    level = 2 if scenario.endswith("2") else 1
    for cycle in (1, 2):
        resident = 2.0 if kept_memory else 0.95
        story.transition(
            f"3[{cycle}].1", "sleep", cycle=cycle, took=0.9, asleep=True, resident=resident, level=level
        )
        story.t += 2.0
        story.transition(f"3[{cycle}].2", "wake_up", cycle=cycle, took=1.4, asleep=False, resident=resident)
        story.step(f"3[{cycle}].3", "probe", cycle=cycle, took=0.0, name="after-wake")
        story.ask(f"3[{cycle}].3", Role.AFTER, CacheCondition.WARM, cycle=cycle, stuck=stuck)
        story.ask(f"3[{cycle}].3", Role.AFTER, CacheCondition.COLD, cycle=cycle)
        if stuck and cycle == 1:
            damaged = [prompt for prompt in _ASKED if prompt.id in stuck]
            story.ask(
                f"3[{cycle}].3",
                Role.CONTROL,
                CacheCondition.COLD,
                cycle=cycle,
                prompts=damaged,
                control=Control.FRESH_SALT,
            )
    return Recording(
        cell=started(scenario, arm, fault=fault),
        server=ServerReady(
            t=30.0,
            runtime="process",
            command="VLLM_SERVER_DEV_MODE=1 python -m vllm.entrypoints.openai.api_server "
            "--model SmolLM2-135M-Instruct --enforce-eager --block-size 32",
            vllm_version="0.32.0",
            boot_seconds=29.4,
            emulated=("CPU sleep mode",),
        ),
        prompts={prompt.id: prompt for prompt in PROMPTS},
        end_of_sequence_ids=(END,),
        vocabulary_size=49152,
        block_size=32,
        passes=tuple(story.passes),
        steps=tuple(story.steps),
        step_ends=story.ends,
        calls=tuple(story.calls),
        observations=tuple(story.seen),
        finished=True,
    )


def started(scenario: str, arm: str, *, fault: str | None = None) -> CellStarted:
    """The first event of a cell."""
    return CellStarted(
        t=0.0,
        run="2026-11-22T10-00-00",
        cell=f"{scenario}.{arm}",
        scenario=scenario,
        why="Sleep throws the KV cache away; an engine that keeps its hashes serves blank blocks.",
        sources=("vllm#17103",),
        arm=arm,
        arm_args=("--enable-prefix-caching" if arm.endswith("on") else "--no-enable-prefix-caching",),
        arm_env={},
        script=({"probe": {"name": "baseline"}}, {"repeat": 2, "steps": [{"sleep": {"level": 1}}]}),
        max_tokens=32,
        temperature=0.0,
        concurrency=4,
        fault=fault,
        started_at="2026-11-22T10:00:00+01:00",
    )


_CLEAN_NOISE = NoiseFloor(compared=8, different=0, exact=True, largest_logprob_shift=0.0)


def clean_cell(scenario: str = "prefix-cache-level1", arm: str = "prefix-cache-off") -> CellResult:
    """A cell whose answers held."""
    return CellResult(
        cell=f"{scenario}.{arm}",
        scenario=scenario,
        arm=arm,
        verdict=Verdict.CLEAN,
        reason="all 16 answers after waking equal their baseline",
        noise=_CLEAN_NOISE,
        bound=Bound(
            affected_prompts_below=0.527,
            confidence=0.95,
            comparisons=4,
            affected_requests_below=0.171,
            requests=16,
            statement="fewer than 52.7% of prompts like these are affected, at 95% confidence",
        ),
        vllm_version="0.32.0",
        runtime="process",
        emulated=("CPU sleep mode",),
    )


def corrupt_cell(*, text: str | None = None, arm: str = "prefix-cache-on") -> CellResult:
    """A cell whose answers changed, with a witness; ``text`` stands in for everything the model said."""
    before, after = healthy_ids(0), stuck_ids(1)
    return CellResult(
        cell=f"prefix-cache-level1.{arm}",
        scenario="prefix-cache-level1",
        arm=arm,
        verdict=Verdict.CORRUPT,
        cause=Cause.STALE_PREFIX_CACHE,
        reason="2 of 4 prompts changed after waking, where the baseline was sure; "
        "a fresh cache salt heals all of them",
        findings=(
            Finding(
                checker="repetition",
                message="rivers, cycle 1, warm: repeats one token over 26 of 27 tokens",
                strength=Strength.HINT,
                prompt="rivers",
                pass_number=6,
                cycle=1,
                evidence={"period": 1, "coverage": 0.97},
            ),
            Finding(
                checker="divergence",
                message="rivers, cycle 1, warm: another token at index 1, where the baseline was sure"
                if text is None
                else text,
                strength=Strength.PROOF,
                prompt="rivers",
                pass_number=6,
                cycle=1,
                evidence={"first_difference": 1, "gap": 5.9} if text is None else {text: text},
            ),
        ),
        witness=Witness(
            prompt="rivers" if text is None else text,
            prompt_text=PROMPTS[1].text if text is None else text,
            baseline=Side(
                pass_number=1,
                condition="warm, computed, before any sleep",
                text=text_of(healthy_ids(1)) if text is None else text,
                token_ids=healthy_ids(1) if text is None else before,
                finish_reason="stop",
                cached_tokens=0,
                likeliest=(
                    TokenChoice(token_id=healthy_ids(1)[1], logprob=-0.004),
                    TokenChoice(token_id=FIRST_ID + 9, logprob=-5.904),
                ),
            ),
            after=Side(
                pass_number=6,
                condition="warm, from the cache, cycle 1",
                text=text_of(after) if text is None else f"{text[: len(text) // 2]}{text}",
                token_ids=after,
                finish_reason="length",
                cached_tokens=64,
                likeliest=(
                    TokenChoice(token_id=_STUCK, logprob=-0.7),
                    TokenChoice(token_id=FIRST_ID + 1, logprob=-1.2),
                    TokenChoice(token_id=FIRST_ID + 2, logprob=-9.0),
                ),
            ),
            first_difference=1,
            baseline_gap=5.9,
        ),
        controls=(
            ControlOutcome(control="fresh_salt", asked=2, healed=2, note="" if text is None else text),
            ControlOutcome(control="unseen_prompts", asked=1, healed=1),
        ),
        ruled_out=("lost weights: unseen prompts answer as before",) if text is None else (text,),
        noise=_CLEAN_NOISE,
        vllm_version="0.32.0",
        runtime="process",
        emulated=("CPU sleep mode",),
        fault="keep-prefix-cache",
    )


def degraded_cell() -> CellResult:
    """A cell whose answers held while memory was not given back."""
    return CellResult(
        cell="prefix-cache-level2.prefix-cache-on",
        scenario="prefix-cache-level2",
        arm="prefix-cache-on",
        verdict=Verdict.DEGRADED,
        cause=Cause.MEMORY,
        reason="answers hold; sleeping gave back 102 MiB of the 1,200 MiB it should",
        findings=(
            Finding(
                checker="memory",
                message="resident memory asleep is 2,048 MiB, awake 2,150 MiB",
                strength=Strength.PROOF,
                cycle=1,
                evidence={"asleep_bytes": 2147483648},
            ),
        ),
        noise=_CLEAN_NOISE,
        vllm_version="0.32.0",
        runtime="process",
        emulated=("CPU sleep mode",),
    )


def inconclusive_cell() -> CellResult:
    """A cell whose noise drowns what is asked."""
    return CellResult(
        cell="prefix-cache-level2.prefix-cache-off",
        scenario="prefix-cache-level2",
        arm="prefix-cache-off",
        verdict=Verdict.INCONCLUSIVE,
        reason="7 of 8 answers changed when nothing had happened; float32 would settle it",
        noise=NoiseFloor(compared=8, different=7, exact=False, largest_logprob_shift=0.25),
        vllm_version="0.32.0",
        runtime="process",
        emulated=("CPU sleep mode",),
    )


def failed_cell() -> CellResult:
    """A cell about which nothing can be said, because the server never came up."""
    return CellResult(
        cell="boot.small",
        scenario="boot",
        arm="small",
        verdict=None,
        reason="the server died while starting",
        error="ServerBootError: the server died while starting: exit code 1",
        runtime="process",
    )


def failed_recording(*, text: str | None = None) -> Recording:
    """What is on disk of a cell whose server never came up."""
    log = "INFO starting\nMemoryError: cannot allocate 24 GiB" if text is None else text
    return Recording(
        cell=started("boot", "small"),
        failure=CellFailed(
            t=12.5,
            error="ServerBootError",
            cause="the server died while starting: exit code 1" if text is None else text,
            remedy="give it more memory" if text is None else text,
            log_tail=log,
        ),
    )


def result_of(*cells: CellResult) -> RunResult:
    """A run of ``cells``, with the worst verdict among them."""
    order = (Verdict.CORRUPT, Verdict.DEGRADED, Verdict.INCONCLUSIVE, Verdict.CLEAN)
    verdicts = {cell.verdict for cell in cells}
    worst = next((verdict for verdict in order if verdict in verdicts), None)
    return RunResult(run="2026-11-22T10-00-00", verdict=worst, exit_code=0, cells=cells)


def mixed_report() -> Report:
    """One cell of every outcome."""
    cells = (corrupt_cell(), clean_cell(), degraded_cell(), inconclusive_cell(), failed_cell())
    recordings = {
        "prefix-cache-level1.prefix-cache-on": recording(
            stuck=("india", "rivers"), fault="keep-prefix-cache"
        ),
        "prefix-cache-level1.prefix-cache-off": recording(arm="prefix-cache-off"),
        "prefix-cache-level2.prefix-cache-on": recording("prefix-cache-level2", kept_memory=True),
        "prefix-cache-level2.prefix-cache-off": recording("prefix-cache-level2", "prefix-cache-off"),
        "boot.small": failed_recording(),
    }
    damaged = "prefix-cache-level1.prefix-cache-on"
    recordings[damaged] = replace(recordings[damaged], token_texts=TOKEN_TEXTS)
    return assemble(
        result_of(*cells),
        recordings,
        run=RunDescription(
            run="2026-11-22T10-00-00",
            sleepwake="0.1.0",
            runtime=ChosenRuntime(name="process", why="no Docker Engine answers"),
            machine=Machine(cores=2, system="Linux"),
            fault=None,
            command=("sleepwake", "run"),
            cells={"boot.small": DescribedCell(arm="small")},
        ),
    )


def clean_report() -> Report:
    """Two cells, both clean."""
    cells = (clean_cell(), clean_cell(arm="prefix-cache-on"))
    return assemble(
        result_of(*cells),
        {cell.cell: recording(cell.scenario, cell.arm) for cell in cells},
    )


def hostile_report(text: str = HOSTILE) -> Report:
    """A run in which everything that can be text is ``text``."""
    return assemble(
        result_of(corrupt_cell(text=text), failed_cell().model_copy(update={"error": text, "reason": text})),
        {
            "boot.small": failed_recording(text=text),
            "prefix-cache-level1.prefix-cache-on": replace(
                recording(stuck=("india",)),
                token_texts=dict.fromkeys(TOKEN_TEXTS, text),
                # Without passes and observations there is nothing to draw, which is slow.
                passes=(),
                observations=(),
            ),
        },
        run=RunDescription(run=text, command=(text,), fault=text, sources={text: text}, cells={}),
    )

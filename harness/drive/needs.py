"""What a script needs besides the model: features of the release, adapters, a variant of the weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from harness.errors import UsageError
from harness.models.model import Model
from harness.scenario.cells import Cell
from harness.scenario.schema import Arm, Scenario
from harness.scenario.script import Step, each_by_itself, flat_steps
from harness.scenario.steps.asking import EvidenceName
from harness.scenario.steps.concurrently import Concurrently
from harness.scenario.steps.loading import LoadAdapter, ReloadWeights
from harness.scenario.steps.updating import InitWeightTransfer, StartWeightUpdate, UpdateWeights
from harness.servers.flags import flag_name
from harness.vllm_api.versions import Feature

LORA_FLAGS: tuple[tuple[str, ...], ...] = (
    ("--enable-lora",),
    ("--max-lora-rank", "8"),
    ("--max-loras", "2"),
)
LORA_ENV: Mapping[str, str] = MappingProxyType({"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1"})

TRANSFER_FLAGS: tuple[tuple[str, ...], ...] = (("--weight-transfer-config", '{"backend": "sleepwake"}'),)
TRANSFER_ENV: Mapping[str, str] = MappingProxyType({"SLEEPWAKE_WEIGHT_TRANSFER": "1"})

FORCING_FLAGS: tuple[tuple[str, ...], ...] = (("--enable-scale-out",), ("--enable-trace-replay",))

_NEEDED_BY_ENVIRONMENT: Mapping[str, Feature] = MappingProxyType(
    {"VLLM_BATCH_INVARIANT": Feature.BATCH_INVARIANCE}
)
_NEEDED_BY_EVIDENCE: Mapping[EvidenceName, Feature] = MappingProxyType({"forced": Feature.FORCED_DECODE})


def features_of(scenario: Scenario) -> frozenset[Feature]:
    """What of vLLM's API, so far as not every release has it, ``scenario`` makes use of."""
    of_steps = (step.features for step in flat_steps(scenario.script))
    of_evidence = {_NEEDED_BY_EVIDENCE[name] for name in scenario.all_evidence if name in _NEEDED_BY_EVIDENCE}
    return frozenset(of_evidence).union(*of_steps)


def features_of_arm(arm: Arm) -> frozenset[Feature]:
    """What an arm's environment asks for that not every release has: one that lacks it says nothing."""
    return frozenset(feature for name, feature in _NEEDED_BY_ENVIRONMENT.items() if arm.env.get(name) == "1")


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What has to be made from the model's own folder."""

    adapters: bool
    other_weights: bool
    transfer: bool = False
    """Whether weights arrive from the model's folder, so that it has to be one."""

    def __bool__(self) -> bool:
        return self.adapters or self.other_weights or self.transfer


def needs_of(script: tuple[Step, ...]) -> Needs:
    """What ``script`` loads into a running server."""
    steps = list(each_by_itself(flat_steps(script)))
    return Needs(
        adapters=any(isinstance(step, LoadAdapter) for step in steps),
        other_weights=any(
            (isinstance(step, ReloadWeights) and step.reload_weights.weights == "other")
            or (isinstance(step, UpdateWeights) and step.update_weights.weights == "other")
            for step in steps
        ),
        transfer=any(isinstance(step, InitWeightTransfer | StartWeightUpdate) for step in steps),
    )


def overlaps(script: tuple[Step, ...]) -> bool:
    """Whether calls of ``script`` are in flight with others, or are given up by their clients."""
    return any(isinstance(step, Concurrently) or step.abandoned is not None for step in flat_steps(script))


def needs_async(scenario: Scenario) -> bool:
    """Whether it asks more of an engine in process than an ``LLM`` has.

    That is a step of its script, or a prompt with a picture, which is no sequence of tokens.
    """
    return scenario.requires == "pictures" or any(step.needs_async for step in flat_steps(scenario.script))


def require_variants(cells: Iterable[Cell], model: Model) -> None:
    """Return when what the cells need can be made from the model.

    Raises:
        UsageError: it cannot, since the model is no folder on this machine.
    """
    for cell in cells:
        if model.folder is None and (needs := needs_of(cell.scenario.script)):
            wanted = "adapters" if needs.adapters else "other weights"
            named = f"{model.location!r} is not one" if model.location else "no model was named"
            raise UsageError(
                f"{cell.id} loads {wanted} that are made from the model's own folder, and {named}",
                remedy="name a local model folder with --model, or leave the scenario out with -k",
            )


def lora_flags(chosen: Sequence[str]) -> tuple[str, ...]:
    """The flags a server needs to load adapters, without those that ``chosen`` words set already."""
    return _without(chosen, LORA_FLAGS)


def transfer_flags(chosen: Sequence[str]) -> tuple[str, ...]:
    """The flags a server needs to be handed weights, without those that ``chosen`` words set already."""
    return _without(chosen, TRANSFER_FLAGS)


def forcing_flags(scenario: Scenario, chosen: Sequence[str]) -> tuple[str, ...]:
    """The flags a server needs to decode along given tokens, where a probe of ``scenario`` asks for that."""
    return _without(chosen, FORCING_FLAGS) if "forced" in scenario.all_evidence else ()


def _without(chosen: Sequence[str], flags: tuple[tuple[str, ...], ...]) -> tuple[str, ...]:
    names = {flag_name(word) for word in chosen}
    return tuple(word for flag in flags if flag_name(flag[0]) not in names for word in flag)

"""What the environment asks the fake to do wrong.

``SLEEPWAKE_FAULT`` plants what it plants in a real engine, under the same names.
``FAKE_VLLM`` asks for what no fault in an engine can do, as ``NAME[:NUMBER],...``; it belongs to
the fake alone.  All of them leave the first answers alone, so that a baseline is healthy, but for
those that say so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

SWITCHBOARD = "switchboard.py:install"
"""How the fault ends that plants and heals others."""


class Fault(StrEnum):
    """Faults of ``harness/engine_plugin/faults`` that the fake has too."""

    KEEP_PREFIX_CACHE = "keep-prefix-cache"
    LOSE_WEIGHTS = "lose-weights"
    LOSE_BUFFERS = "lose-buffers"
    ROUND_KEYS_AND_VALUES = "round-keys-and-values"
    DAMAGE_LATE_TOKENS = "damage-late-tokens"
    DAMAGE_BLOCKS_CACHED_AFTER_WAKE = "damage-blocks-cached-after-wake"
    LOSE_GRAMMAR_STATE = "lose-grammar-state"
    IGNORE_STOPS = "ignore-stops"
    FORGET_PENALTIES = "forget-penalties"
    GARBLE_TEXT = "garble-text"
    DEAD_PREFIX_CACHE = "dead-prefix-cache"
    SLOW_STEPS = "slow-steps"
    SLOW_PREFILL = "slow-prefill"
    SLOW_WAKE_UPS = "slow-wake-ups"


class Behaviour(StrEnum):
    """Misbehaviour of the process or of the API."""

    DIE_AT_BOOT = "die-at-boot"
    """Exit with code 1 before listening."""
    NEVER_READY = "never-ready"
    """Listen, but answer ``/health`` with 503 for ever."""
    DIE_IN_PROBE = "die-in-probe"
    """Exit while answering completion number NUMBER (default 3)."""
    DIE_ASLEEP = "die-asleep"
    """Exit right after having answered a ``/sleep`` of level 1 or 2."""
    HANG = "hang"
    """Never answer a completion, from the start."""
    HANG_AFTER_WAKE = "hang-after-wake"
    """Never answer completions after the first wake-up."""
    LOSE_SHORT_AFTER_WAKE = "lose-short-after-wake"
    """Never answer a completion of one token after the first wake-up, and do nothing about it."""
    ERROR_AFTER_WAKE = "error-after-wake"
    """Answer completions after the first wake-up with HTTP 500."""
    EMPTY_AFTER_WAKE = "empty-after-wake"
    """Answer completions after the first wake-up with 200 and no body, as NaN logits do."""
    WRONG_USAGE_AFTER_WAKE = "wrong-usage-after-wake"
    """Count one completion token too many after the first wake-up."""
    FINGERPRINT_AFTER_WAKE = "fingerprint-after-wake"
    """Tell another ``system_fingerprint`` after the first wake-up."""
    GARBAGE_AFTER_WAKE = "garbage-after-wake"
    """After the first wake-up answer right for NUMBER (default 8) tokens, then shuffle the logits."""
    GARBAGE_NOW_AND_THEN = "garbage-now-and-then"
    """After the first wake-up shuffle the logits of one request in NUMBER (default 20), whatever it asks."""
    MIX_SALTS_AFTER_WAKE = "mix-salts-after-wake"
    """Keep the prefix cache's hashes over a sleep, and from then on find them under any salt."""
    NO_WEIGHTS = "no-weights"
    """Have nothing but zeros for weights, from the start."""
    WRONG_REHITS = "wrong-rehits"
    """From the start, every block that is read from the prefix cache holds nothing."""
    SLOW = "slow"
    """Take NUMBER (default 10) milliseconds more for every step, from the start."""
    SLOW_AFTER_WAKE = "slow-after-wake"
    """The same from the first sleep of memory on."""
    TAKES_TIME = "takes-time"
    """Take as long as an engine on a machine whose speed changes, NUMBER says how, from the start."""
    NOISE = "noise"
    """Add noise of NUMBER/1000 (default 20) standard deviation to all logits, from the start."""
    SLEEP_DOES_NOTHING = "sleep-does-nothing"
    """Answer ``/sleep`` with 200 and stay awake."""
    FORGET_NOTHING_IF_PAUSED = "forget-nothing-if-paused"
    """Keep the prefix cache's hashes over a sleep that begins while scheduling rests already."""
    HANG_AFTER_RELEASE = "hang-after-release"
    """Never answer completions after the KV cache's memory was once released."""
    DIE_SLEEPING_DEEPER = "die-sleeping-deeper"
    """Exit when put to sleep at level 2 while the weights are asleep already."""
    WANTS_KEY = "wants-key"
    """Answer below ``/v1`` with 401 to whoever shows no key, from the start, as ``--api-key`` does."""
    WAKE_UP_OVERTAKES_SLEEP = "wake-up-overtakes-sleep"
    """A sleep that waits for requests does not look whether a wake-up let scheduling go on meanwhile."""
    RESET_LOST_BETWEEN_CALLS = "reset-lost-between-calls"
    """Say that the prefix cache is forgotten, and forget nothing, while a sleep or a pause is under way."""
    PAUSE_AND_CANCEL_DROP_REQUEST = "pause-and-cancel-drop-request"
    """Forget one other request for good when a client leaves while a pause waits for requests."""
    WAKE_UP_FAILS = "wake-up-fails"
    """Answer ``/wake_up`` with HTTP 500 and stay asleep."""


_DEFAULT_NUMBERS = {
    Behaviour.DIE_IN_PROBE: 3,
    Behaviour.GARBAGE_AFTER_WAKE: 8,
    Behaviour.GARBAGE_NOW_AND_THEN: 20,
    Behaviour.NOISE: 20,
    Behaviour.SLOW: 10,
    Behaviour.SLOW_AFTER_WAKE: 10,
}


@dataclass(frozen=True)
class Misbehaviour:
    """What was asked for, each with its number."""

    behaviours: Mapping[Behaviour, int]
    faults: frozenset[Fault] = frozenset()
    has_switchboard: bool = False
    """Whether ``/collective_rpc`` plants and heals faults."""

    def number(self, behaviour: Behaviour) -> int | None:
        """The number asked for, ``None`` when the behaviour was not."""
        return self.behaviours.get(behaviour)

    def __contains__(self, behaviour: Behaviour) -> bool:
        return behaviour in self.behaviours

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Misbehaviour:
        """Read both variables.

        Raises:
            ValueError: one of them names something unknown.
        """
        behaviours: dict[Behaviour, int] = {}
        for word in _words(environ.get("FAKE_VLLM", "")):
            name, _, number = word.partition(":")
            behaviour = Behaviour(name)
            behaviours[behaviour] = int(number) if number else _DEFAULT_NUMBERS.get(behaviour, 0)
        planted = environ.get("SLEEPWAKE_FAULT", "")
        if planted.endswith(SWITCHBOARD):
            return cls(behaviours=behaviours, has_switchboard=True)
        return cls(behaviours=behaviours, faults=frozenset(Fault(word) for word in _words(planted)))


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]

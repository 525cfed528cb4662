"""From two looks at a server to what happened in between.  Pure.

What is counted is never missed, however far apart the looks are.  A state that is only seen, as in releases
that count nothing, can be: an engine that slept and woke between two looks is like one that did not.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from harness.watch.looking import Look


@dataclass(frozen=True, kw_only=True)
class Happening:
    """What somebody else did to a server; falsy where nothing was noticed."""

    wake_ups: int = 0
    """Calls of ``/wake_up`` that came to an end."""
    resumed: bool = False
    """It goes on after a pause, or after a rest that no wake-up ended."""
    restarted: bool = False
    weights: str | None = None
    """What the weights are called that were loaded."""
    adapters_added: frozenset[str] = frozenset()
    adapters_removed: frozenset[str] = frozenset()
    taken_up: bool = False
    """An earlier baseline is held against it for the first time."""

    def __bool__(self) -> bool:
        return self != NOTHING

    def __add__(self, later: Happening) -> Happening:
        """Both, one after the other."""
        return Happening(
            wake_ups=self.wake_ups + later.wake_ups,
            resumed=self.resumed or later.resumed,
            restarted=self.restarted or later.restarted,
            weights=later.weights or self.weights,
            adapters_added=self.adapters_added | later.adapters_added,
            adapters_removed=self.adapters_removed | later.adapters_removed,
            taken_up=self.taken_up or later.taken_up,
        )

    @property
    def actions(self) -> dict[str, dict[str, int | str]]:
        """Each as a step of a history, with its options; the weightiest first."""
        adapters = sorted(self.adapters_added | self.adapters_removed)
        steps: list[tuple[bool, str, dict[str, int | str]]] = [
            (self.restarted, "seen_restart", {}),
            (self.weights is not None, "seen_weight_update", {"version": self.weights or ""}),
            (self.wake_ups > 0, "seen_wake_up", {"times": self.wake_ups} if self.wake_ups > 1 else {}),
            (bool(adapters), "seen_adapter_change", {"names": ", ".join(adapters)}),
            (self.resumed, "seen_resumption", {}),
            (self.taken_up, "earlier_baseline", {}),
        ]
        return {action: options for happened, action, options in steps if happened}

    @property
    def kind(self) -> str:
        """The weightiest of what happened, in a word that can name a folder."""
        return _KINDS[next(iter(self.actions))]

    @property
    def words(self) -> str:
        """What happened, for people."""
        said = [
            "restart" if self.restarted else "",
            f"new weights {self.weights!r}" if self.weights is not None else "",
            "wake-up" if self.wake_ups == 1 else "",
            f"{self.wake_ups} wake-up calls" if self.wake_ups > 1 else "",
            f"adapters added: {', '.join(sorted(self.adapters_added))}" if self.adapters_added else "",
            f"adapters removed: {', '.join(sorted(self.adapters_removed))}" if self.adapters_removed else "",
            "goes on after a rest" if self.resumed and not self.wake_ups else "",
            "held against an earlier baseline" if self.taken_up else "",
        ]
        return ", ".join(filter(None, said))


NOTHING = Happening()

_KINDS = {
    "seen_restart": "restart",
    "seen_weight_update": "weights",
    "seen_wake_up": "wake",
    "seen_adapter_change": "adapters",
    "seen_resumption": "resumed",
    "earlier_baseline": "taken-up",
}


def notice(before: Look, now: Look) -> Happening:
    """What happened between two looks that both told something."""
    restarted = _is_another_process(before, now)
    counted = (now.wake_ups or 0) - (0 if restarted else (before.wake_ups or 0))
    goes_on = before.rests and not now.rests and not restarted
    seen = int(goes_on and before.is_asleep and now.wake_ups is None)
    wake_ups = counted or seen
    return Happening(
        wake_ups=wake_ups,
        resumed=goes_on and not wake_ups,
        restarted=restarted,
        weights=_other(before.weight_version, now.weight_version),
        adapters_added=_more(now.adapters, before.adapters),
        adapters_removed=_more(before.adapters, now.adapters),
    )


def remembering(before: Look, now: Look) -> Look:
    """``now``, with what it left out and was known: what one look does not tell has not changed by that."""
    return replace(
        now,
        started=before.started if now.started is None else now.started,
        weight_version=before.weight_version if now.weight_version is None else now.weight_version,
        adapters=before.adapters if now.adapters is None else now.adapters,
    )


def _is_another_process(before: Look, now: Look) -> bool:
    """Whether it was started at another time, or counts from the beginning again."""
    if None not in {before.started, now.started} and before.started != now.started:
        return True
    counts = (
        (before.wake_ups, now.wake_ups),
        (before.sleeps, now.sleeps),
        (before.tokens, now.tokens),
    )
    return any(was is not None and (is_now or 0) < was for was, is_now in counts)


def _other(before: str | None, now: str | None) -> str | None:
    return now if before is not None and now not in {None, before} else None


def _more(these: frozenset[str] | None, those: frozenset[str] | None) -> frozenset[str]:
    return frozenset() if these is None or those is None else these - those

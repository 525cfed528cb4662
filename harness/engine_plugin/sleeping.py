"""What is asleep, and how it comes back: the state behind ``sleep`` and ``wake_up``."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from harness.engine_plugin.memory import Backup, Mappings, Region, discard
from harness.engine_plugin.settings import Discard

logger = logging.getLogger("vllm.sleepwake")  # below vLLM's own logger, whose format and level it takes

# Large and finite: CPU attention reads masked rows, where a NaN would hurt a healthy engine too.
POISON = 100.0


@dataclass(frozen=True)
class Asleep:
    """The memory of one tag while it is given back."""

    regions: tuple[Region, ...]
    backup: Backup


class SleepingMemory:
    """Puts tagged memory to sleep and wakes it up, in any order and any number of times."""

    def __init__(self, holds: Discard) -> None:
        self._holds = holds
        self._asleep: dict[str, Asleep] = {}

    def tags(self) -> tuple[str, ...]:
        """The tags that are asleep, in the order in which they fell asleep."""
        return tuple(self._asleep)

    def sleep(self, memory: Mapping[str, Iterable[Region]], *, keep: Iterable[Region]) -> int:
        """Give back the memory of each tag; only the content of ``keep`` returns at wake-up.

        Everything is saved before anything is discarded: a full disk leaves the engine as it was.  A tag that
        is asleep already stays as it is, with the backup that it has.

        Returns:
            Bytes given back to the operating system.

        Raises:
            OSError: The backup could not be written.
        """
        mappings = Mappings()
        kept = {region.address for region in keep}
        falling_asleep: dict[str, Asleep] = {}
        try:
            for tag in [tag for tag in memory if tag not in self._asleep]:
                falling_asleep[tag] = Asleep(_ours(tag, memory[tag], mappings), Backup())
                self._save(falling_asleep[tag], kept)
        except OSError:
            for asleep in falling_asleep.values():
                asleep.backup.close()
            raise
        self._asleep.update(falling_asleep)
        return sum(
            discard(region, mappings) for asleep in falling_asleep.values() for region in asleep.regions
        )

    def _save(self, asleep: Asleep, kept: set[int]) -> None:
        for region in asleep.regions:
            if self._holds is Discard.STALE or region.address in kept:
                asleep.backup.save(region)

    def wake(self, tag: str) -> None:
        """Take the memory back and give it the content that it holds from now on.

        Every byte is written, as a GPU maps all its pages again: resident memory returns to what it was.
        """
        if tag not in self._asleep:
            return
        asleep = self._asleep.pop(tag)
        for region in asleep.regions:
            if region in asleep.backup:
                asleep.backup.restore(region)
            else:
                region.values().fill_(POISON if self._holds is Discard.POISON else 0)
        asleep.backup.close()


def _ours(tag: str, regions: Iterable[Region], mappings: Mappings) -> tuple[Region, ...]:
    """The regions that are ours to discard; says what is not."""
    found = tuple(regions)
    ours = tuple(region for region in found if mappings.writable(region))
    if len(ours) < len(found):
        logger.warning(
            "%d tensors of %s stay, because their memory is shared or read-only.", len(found) - len(ours), tag
        )
    return ours

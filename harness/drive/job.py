"""One cell as the driver is given it, and the server that it wants."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.drive.faults import fault_file
from harness.drive.needs import (
    LORA_ENV,
    TRANSFER_ENV,
    Needs,
    forcing_flags,
    lora_flags,
    needs_async,
    needs_of,
    transfer_flags,
)
from harness.history.layout import SERVER_LOG
from harness.models.model import Model
from harness.models.variants import Variants, variants_of
from harness.scenario.cells import Cell
from harness.servers.base import ServerSpec

EXCHANGED_ADAPTERS = "adapters"
"""Folder of a cell in which adapters are exchanged, as long as it runs."""


@dataclass(frozen=True, kw_only=True)
class CellJob:
    """One cell and everything outside the scenario that decides how it runs."""

    cell: Cell
    run_id: str
    directory: Path
    model: Model
    fault: str | None = None
    extra_args: tuple[str, ...] = ()
    prompts_in_noise: int = 0
    """How many prompts are asked at the least where the engine computes coarsely."""

    @property
    def needs(self) -> Needs:
        """What its script needs besides the model."""
        return needs_of(self.cell.scenario.script)

    @property
    def variants(self) -> Variants:
        """Where that is."""
        return variants_of(self.model, exchanged=self.directory.absolute() / EXCHANGED_ADAPTERS)

    @property
    def spec(self) -> ServerSpec:
        """The server the cell wants."""
        needs, variants = self.needs, self.variants
        chosen = (*self.extra_args, *self.cell.arm.args)
        fault_env = {"SLEEPWAKE_FAULT": self.fault} if self.fault else {}
        adapters = [*variants.adapters.values(), variants.exchanged] if needs.adapters else []
        other_weights = variants.other_weights if needs.other_weights else None
        wanted = (self.model.folder, fault_file(self.fault), other_weights)
        return ServerSpec(
            run_id=self.run_id,
            cell=self.cell.id,
            model=self.model.location,
            served_model_name=self.model.served_name,
            args=(
                *(lora_flags(chosen) if needs.adapters else ()),
                *(transfer_flags(chosen) if needs.transfer else ()),
                *forcing_flags(self.cell.scenario, chosen),
                *map(self._filled_in, chosen),
            ),
            env={
                **(LORA_ENV if needs.adapters else {}),
                **(TRANSFER_ENV if needs.transfer else {}),
                **self.cell.arm.env,
                **fault_env,
            },
            files=(*filter(None, wanted), *adapters),
            log_path=self.directory / SERVER_LOG,
            boot_deadline_s=self.cell.scenario.deadlines.boot,
            needs_async=needs_async(self.cell.scenario),
        )

    @property
    def scratch(self) -> Path:
        """A folder the server may fill while the cell runs; a container makes its own under this path."""
        return self.directory.absolute() / "scratch"

    def _filled_in(self, word: str) -> str:
        return word.replace("$MODEL", self.model.location).replace("$SCRATCH", str(self.scratch))

"""Weights that arrive through files: a weight transfer engine for every device, CPUs included.

vLLM's own engines carry weights from a trainer through CUDA IPC, NCCL or RDMA.  This one takes them from the
``.safetensors`` files of a folder and does everything else as vLLM's CUDA IPC engine does
(vllm/distributed/weight_transfer/ipc_engine.py): what begins, loads and ends an update is vLLM's own code.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import safe_open
from vllm.distributed.weight_transfer.base import (
    WeightTransferEngine,
    WeightTransferInitInfo,
    WeightTransferUpdateInfo,
)
from vllm.model_executor.model_loader.reload import finalize_layerwise_reload, initialize_layerwise_reload

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch


@dataclass
class FromFiles(WeightTransferInitInfo):
    """Nothing has to be agreed upon beforehand."""


@dataclass
class SomeFiles(WeightTransferUpdateInfo):
    """Which tensors of a folder arrive with one call.

    The folder's tensors, in the order of their names, are dealt into ``chunks`` runs of nearly equal length.
    Those of run ``chunk``, counted from 1, arrive, but none whose name fits a pattern of ``leave_out``.
    """

    folder: str
    chunk: int = 1
    chunks: int = 1
    leave_out: list[str] = field(default_factory=list)


class FileTransferEngine(WeightTransferEngine[FromFiles, SomeFiles]):
    """Loads weights of a checkpoint on request, as if a trainer had sent them."""

    init_info_cls = FromFiles
    update_info_cls = SomeFiles

    def init_transfer_engine(self, init_info: FromFiles) -> None:
        """Do nothing: a folder can be read without any agreement."""

    def start_weight_update(self) -> None:
        """Have every layer wait for its weights."""
        initialize_layerwise_reload(self.model)

    def update_weights(self, update_info: dict[str, Any]) -> None:
        """Load one chunk, without waiting for an accelerator: there may be none."""
        self.receive_weights(self.parse_update_info(update_info))

    def receive_weights(self, update_info: SomeFiles) -> None:
        """Read the tensors of one chunk and have the model load them.

        Raises:
            FileNotFoundError: The folder has no ``.safetensors`` files.
        """
        model: Any = self.model  # every model of vLLM's has the method, its base class has not
        model.load_weights(_tensors(update_info))

    def finish_weight_update(self) -> None:
        """Have vLLM process what has arrived."""
        finalize_layerwise_reload(self.model, self.model_config)  # type: ignore[no-untyped-call]

    def shutdown(self) -> None:
        """Do nothing: nothing is held."""


def _tensors(wanted: SomeFiles) -> Iterator[tuple[str, torch.Tensor]]:
    files = sorted(Path(wanted.folder).glob("*.safetensors"))
    if not files:
        raise FileNotFoundError(f"no .safetensors files in {wanted.folder}")
    place: dict[str, Path] = {}
    for file in files:
        with safe_open(file, framework="pt") as tensors:
            place |= dict.fromkeys(tensors.keys(), file)
    names = sorted(place)
    first, last = (len(names) * number // wanted.chunks for number in (wanted.chunk - 1, wanted.chunk))
    for name in names[first:last]:
        if not any(fnmatch(name, pattern) for pattern in wanted.leave_out):
            with safe_open(place[name], framework="pt") as tensors:
                yield name, tensors.get_tensor(name)

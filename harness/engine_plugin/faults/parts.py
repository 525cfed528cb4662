"""Cause classes: draft model and KV connector.  They show only where the engine has such a part."""

from __future__ import annotations

from typing import Any

from harness.engine_plugin.faults.hooks import (
    Worker,
    Wrapper,
    after_wake,
    counted_wakes,
    on_worker_start,
    wrap,
)
from harness.engine_plugin.faults.registry import fault


@fault("lose-draft-weights", cause="draft model", needs=("--speculative-config",))
def lose_draft_weights() -> None:
    """The draft model's weights are zero after waking up (vllm#52479): answers are right, drafts are not.

    Shows in the acceptance rate and in speed.
    """
    after_wake("weights", _zero_draft)


@fault("lose-connector-loads", cause="kv connector", needs=("--kv-transfer-config",))
def lose_connector_loads() -> None:
    """After waking up the KV connector says that it has loaded blocks and has not."""

    def start(worker: Worker) -> None:
        from vllm.distributed.kv_transfer import get_kv_transfer_group, has_kv_transfer_group

        if not has_kv_transfer_group():
            return
        wakes = counted_wakes(worker)

        def start_load_kv(original: Wrapper, *arguments: Any, **options: Any) -> None:
            if not wakes():
                original(*arguments, **options)

        wrap(get_kv_transfer_group(), "start_load_kv", start_load_kv)

    on_worker_start(start)


def _zero_draft(worker: Worker) -> None:
    draft = getattr(getattr(worker.model_runner, "drafter", None), "model", None)
    for parameter in draft.parameters() if draft is not None else ():
        parameter.data.zero_()

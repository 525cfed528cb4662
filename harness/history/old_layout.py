"""What older histories leave unsaid, and what it must have been: derived once, when an event is read.

Nothing else knows steps by their names.  These lists describe what was written before events said it
themselves, so nothing is ever added to them.
"""

from __future__ import annotations

from collections.abc import Mapping

_CHANGED_NOTHING = frozenset(
    {"probe", "null_transition", "start_requests", "finish_requests", "cancel_requests"}
)
_TOOK_NO_MEMORY = frozenset(
    {"sleep", "wake_up", "resume", "reload_weights", "release_kv_cache_memory", "reset_prefix_cache"}
)
_OF_ONE_ADAPTER = frozenset({"load_adapter", "unload_adapter"})
_SENT_JSON = frozenset(
    {"/collective_rpc", "/v1/load_lora_adapter", "/v1/unload_lora_adapter", "/weight_checker"}
)


def facts_of_step(step: Mapping[str, object]) -> dict[str, object]:
    """The facts of a step that a ``step_started`` event does not tell."""
    if "changes_engine" in step:
        return {}
    action, options = step.get("action"), step.get("options")
    told = options if isinstance(options, Mapping) else {}
    return {
        "changes_engine": action not in _CHANGED_NOTHING,
        "takes_memory": action not in _TOOK_NO_MEMORY,
        "only_adapter": told.get("name") if action in _OF_ONE_ADAPTER else None,
        "asleep_after": _asleep_after(action, told),
    }


def _asleep_after(action: object, options: Mapping[object, object]) -> bool | None:
    if action == "sleep" and options.get("level") != 0:  # vLLM's default is 1
        return True
    return False if action == "wake_up" and not options.get("tags") else None


def facts_of_call(call: Mapping[str, object]) -> dict[str, object]:
    """How a call was sent, where a ``call`` event does not tell."""
    return {} if "sends_json" in call else {"sends_json": call.get("path") in _SENT_JSON}

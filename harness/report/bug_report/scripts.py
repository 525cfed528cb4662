"""The files that show a bug again without the harness: ``repro.py``, ``repro.sh``, ``test_repro.py``."""

from __future__ import annotations

import pprint
import shlex
from collections.abc import Iterator, Mapping
from importlib.resources import files

from harness.redaction import HIDDEN, is_secret_name
from harness.report.bug_report.reproduction import Reproduction
from harness.report.text import one_line

_TEMPLATES = files("harness.report.bug_report") / "templates"
_WIDTH = 100


def repro_py(repro: Reproduction, *, recorded_with: str) -> str:
    """Return the script that asks, carries the transitions out, and asks again."""
    constants: dict[str, object] = {
        "RECORDED_WITH": one_line(recorded_with),
        "PROMPT": _prompt(repro),
        "MAX_TOKENS": repro.max_tokens,
        "TEMPERATURE": repro.temperature,
        "SEED": repro.seed,
        "LOGPROB_TOLERANCE": repro.logprob_tolerance,
        "ANSWER_DEADLINE_S": repro.answer_deadline_s,
        "CALL_DEADLINE_S": repro.transition_deadline_s,
        "CYCLES": [
            [
                (call.method, call.path, dict(call.query), call.body and dict(call.body), call.status)
                for call in cycle
            ]
            for cycle in repro.cycles
        ],
    }
    heads = {
        "LOGPROB_TOLERANCE": "# nat; None: tokens and ending decide",
        "CYCLES": "# The answer is compared after each cycle.  Method, path, query, JSON body, status then.",
    }
    return _filled("repro.py", RECORDED=_assignments(constants, heads))


def _prompt(repro: Reproduction) -> dict[str, object]:
    """What of a request says what is asked."""
    if repro.picture is None:
        return {"prompt": list(repro.prompt_token_ids)}
    content = [
        {"type": "image_url", "image_url": {"url": repro.picture}},
        {"type": "text", "text": repro.prompt_text},
    ]
    return {"messages": [{"role": "user", "content": content}], "logprobs": True, "top_logprobs": 1}


def repro_sh(repro: Reproduction) -> str:
    """Return the script that starts a server, runs ``repro.py`` against it and stops it."""
    return _filled(
        "repro.sh",
        MODEL=_model(repro.server.model),
        ENVIRONMENT="\n".join(_exports(repro.server.env)),
        ARGUMENTS=" \\\n  ".join(_grouped(repro.server.args)),
        BOOT_DEADLINE_S=f"{repro.boot_deadline_s:.0f}",
    )


def repro_test_py(repro: Reproduction) -> str:
    """Return the same as a test in vLLM's own manner."""
    env = {name: value for name, value in repro.server.env.items() if not is_secret_name(name)}
    constants: dict[str, object] = {
        "MODEL": repro.server.model or "",
        "ARGS": list(repro.server.args),
        "ENV": {"VLLM_SERVER_DEV_MODE": "1", **env},
    }
    return _filled("test_repro.py", RECORDED=_assignments(constants, {}))


def _filled(name: str, **values: str) -> str:
    text = (_TEMPLATES / f"{name}.template").read_text(encoding="utf-8")
    for key, value in values.items():
        text = text.replace(f"@{key}@", value)
    return text


def _assignments(constants: Mapping[str, object], heads: Mapping[str, str]) -> str:
    return "\n".join(_assignment(name, value, heads.get(name)) for name, value in constants.items())


def _assignment(name: str, value: object, head: str | None) -> str:
    literal = pprint.pformat(value, width=_WIDTH - len(name) - 3, compact=True, sort_dicts=False)
    indented = literal.replace("\n", f"\n{' ' * (len(name) + 3)}")
    return "\n".join(filter(None, (head, f"{name} = {indented}")))


def _model(model: str | None) -> str:
    if model is not None:
        return f"MODEL=${{MODEL:-{shlex.quote(model)}}}"
    return (
        'if [ -z "${MODEL:-}" ]; then\n'
        '  echo "cannot tell: the run used a local model folder; set MODEL"\n'
        "  exit 2\n"
        "fi"
    )


def _exports(env: Mapping[str, str]) -> Iterator[str]:
    yield "export VLLM_SERVER_DEV_MODE=1 # /sleep, /wake_up, /collective_rpc"
    for name, value in env.items():
        if name == "VLLM_SERVER_DEV_MODE":
            continue
        if is_secret_name(name) or value == HIDDEN:
            yield f"# {name} was set as well; its value is a secret"
        elif name == "SLEEPWAKE_CPU_SLEEP":
            yield f"export {name}={shlex.quote(value)} # CPUs only: sleepwake emulates a sleep mode for them"
        else:
            yield f"export {name}={shlex.quote(value)}"


def _grouped(args: tuple[str, ...]) -> Iterator[str]:
    """One flag with its values a line."""
    line: list[str] = []
    for word in args:
        if word.startswith("--") and line:
            yield " ".join(line)
            line = []
        line.append(shlex.quote(word))
    if line:
        yield " ".join(line)

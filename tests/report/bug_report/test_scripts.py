"""The scripts that show a bug again, run for real against a fake vLLM."""

from __future__ import annotations

import io
import os
import runpy
import shutil
import socket
import subprocess
import sys
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path

import pytest

from harness.report.bug_report.reproduction import Invocation, Reproduction, Transition
from harness.report.bug_report.scripts import repro_py, repro_sh, repro_test_py
from tests.fake_vllm.behaviours import Behaviour, Fault, Misbehaviour
from tests.fake_vllm.threads import Served

REPRO = Reproduction(
    prompt="p0",
    prompt_text="What is this?",
    prompt_token_ids=tuple(100 + number % 90 for number in range(140)),
    picture=None,
    max_tokens=16,
    temperature=0.0,
    seed=0,
    cycles=(
        (
            Transition(method="POST", path="/sleep", query={"level": "1"}, body=None, status=200),
            Transition(method="POST", path="/wake_up", query={}, body=None, status=200),
        ),
    ),
    logprob_tolerance=None,
    answer_deadline_s=60.0,
    transition_deadline_s=60.0,
    boot_deadline_s=90.0,
    server=Invocation(
        model="toy-model",
        env={"SOME_TOKEN": "***", "SLEEPWAKE_CPU_SLEEP": "1"},
        args=("--enable-sleep-mode", "--block-size", "32", "--enable-prefix-caching"),
    ),
)
LEVEL_2 = (
    Transition(method="POST", path="/sleep", query={"level": "2"}, body=None, status=200),
    Transition(method="POST", path="/wake_up", query={"tags": "weights"}, body=None, status=200),
    Transition(
        method="POST", path="/collective_rpc", query={}, body={"method": "reload_weights"}, status=200
    ),
    Transition(method="POST", path="/wake_up", query={"tags": "kv_cache"}, body=None, status=200),
)


def run_repro(folder: Path, url: str, repro: Reproduction = REPRO) -> tuple[int, str]:
    """Run ``repro.py`` as a program would be, but in this process; its exit code and its last line."""
    script = folder / "repro.py"
    script.write_text(repro_py(repro, recorded_with="vLLM 0.32.0"))
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(printed):
        patch.setattr(sys, "argv", [str(script), url])
        with pytest.raises(SystemExit) as end:
            runpy.run_path(str(script), run_name="__main__")
    return int(end.value.code or 0), printed.getvalue().splitlines()[-1]


def test_a_healthy_server_matches(tmp_path: Path, served: Served) -> None:
    """Level 1, and level 2 with its documented recovery, over several cycles: MATCH and 0."""
    url = served.start()
    assert run_repro(tmp_path, url) == (0, "MATCH")
    twice = replace(REPRO, cycles=(LEVEL_2, *REPRO.cycles))
    assert run_repro(tmp_path, url, twice) == (0, "MATCH")


def test_a_picture_is_shown_again(tmp_path: Path, served: Served) -> None:
    """It is sent with its text, and a server that loses its weights diverges on it."""
    shown = replace(REPRO, picture="data:image/png;base64,AAAA")
    assert run_repro(tmp_path, served.start(), shown) == (0, "MATCH")
    code, last = run_repro(tmp_path, served.start(Misbehaviour({}, frozenset({Fault.LOSE_WEIGHTS}))), shown)
    assert (code, last[:10]) == (1, "DIVERGED: ")


@pytest.mark.parametrize(
    ("misbehaviour", "says"),
    [
        (Misbehaviour({}, frozenset({Fault.KEEP_PREFIX_CACHE})), "DIVERGED: token "),
        (Misbehaviour({}, frozenset({Fault.LOSE_WEIGHTS})), "DIVERGED: "),
        (Misbehaviour({Behaviour.GARBAGE_AFTER_WAKE: 8}), "DIVERGED: token 8 is token_id:"),
        (Misbehaviour({Behaviour.ERROR_AFTER_WAKE: 0}), "DIVERGED: no answer any more: "),
        (Misbehaviour({Behaviour.EMPTY_AFTER_WAKE: 0}), "DIVERGED: no answer any more: "),
    ],
)
def test_a_damaged_server_diverges(
    tmp_path: Path, served: Served, misbehaviour: Misbehaviour, says: str
) -> None:
    """Other tokens, an error, nothing: DIVERGED and 1, with where."""
    code, last = run_repro(tmp_path, served.start(misbehaviour))
    assert (code, last[: len(says)]) == (1, says)


@pytest.mark.cell
def test_a_server_that_falls_silent_diverges(tmp_path: Path, served: Served) -> None:
    """The deadline runs out: it is as long as a busy machine may need for the answers before."""
    silent = served.start(Misbehaviour({Behaviour.HANG_AFTER_WAKE: 0}))
    code, last = run_repro(tmp_path, silent, replace(REPRO, answer_deadline_s=10.0))
    assert code == 1
    assert last.startswith("DIVERGED: no answer any more: ")


@pytest.mark.parametrize(
    ("misbehaviour", "deadline_s"),
    [
        (Misbehaviour({Behaviour.HANG: 0}), 0.5),  # no answer ever comes
        (Misbehaviour({Behaviour.WAKE_UP_FAILS: 0}), 60.0),
    ],
)
def test_what_prevents_the_question_is_neither(
    tmp_path: Path, served: Served, misbehaviour: Misbehaviour, deadline_s: float
) -> None:
    """No baseline, or a transition that fails where it had not: exit code 2 and no verdict."""
    repro = replace(REPRO, answer_deadline_s=deadline_s)
    code, last = run_repro(tmp_path, served.start(misbehaviour), repro)
    assert code == 2
    assert last.startswith("cannot tell: ")


def test_no_server_is_neither(tmp_path: Path) -> None:
    """Nothing listens: exit code 2."""
    assert run_repro(tmp_path, "http://127.0.0.1:9")[0] == 2


@pytest.mark.cell
def test_the_pytest_form_passes_and_fails_as_the_script_does(tmp_path: Path, served: Served) -> None:
    """Against a server that runs already."""
    (tmp_path / "repro.py").write_text(repro_py(REPRO, recorded_with="vLLM 0.32.0"))
    (tmp_path / "test_repro.py").write_text(repro_test_py(REPRO))
    faulty = Misbehaviour({}, frozenset({Fault.KEEP_PREFIX_CACHE}))
    outcomes = [
        subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_repro.py"],
            cwd=tmp_path,
            env={**os.environ, "VLLM_URL": url},
            capture_output=True,
            text=True,
            check=False,
        ).stdout
        for url in (served.start(), served.start(faulty))
    ]
    assert "1 passed" in outcomes[0]
    assert "1 failed" in outcomes[1]


@pytest.mark.skipif(shutil.which("bash") is None, reason="the script is written for bash")
@pytest.mark.cell
def test_the_shell_script_starts_asks_and_stops(tmp_path: Path, fake_engine_command: tuple[str, ...]) -> None:
    """It passes the exit code on, hides the shell's chatter, and leaves nothing listening."""
    (tmp_path / "repro.py").write_text(repro_py(REPRO, recorded_with="vLLM 0.32.0"))
    script = tmp_path / "repro.sh"
    script.write_text(repro_sh(REPRO))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    env = {
        **os.environ,
        "PORT": str(port),
        "PYTHON": sys.executable,
        "SERVE": " ".join([*fake_engine_command, "--model"]),
        "SLEEPWAKE_FAULT": "keep-prefix-cache",
    }
    done = subprocess.run(["bash", str(script)], env=env, capture_output=True, text=True, check=False)  # noqa: S607
    assert (done.returncode, done.stderr) == (1, ""), done
    assert done.stdout.splitlines()[-1].startswith("DIVERGED")
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0

    gone = subprocess.run(
        ["bash", str(script)],  # noqa: S607
        env={**env, "SERVE": "false"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert gone.returncode == 2
    assert "did not become ready" in gone.stdout


def test_a_model_nobody_else_has_must_be_named() -> None:
    """A private folder is not written into the script; running it without a model is not a divergence."""
    script = repro_sh(replace(REPRO, server=replace(REPRO.server, model=None)))
    assert 'if [ -z "${MODEL:-}" ]' in script
    assert "export SOME_TOKEN" not in script

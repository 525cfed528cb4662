"""What must not leave the machine does not."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.report.bug_report.private import Private

SOMEWHERE = Private(
    secrets=frozenset({"correct horse battery"}),
    hosts=frozenset({"gpu-box-7", "gpu-box-7.example.org"}),
    folders={"/data/alice": "~", "/data/alice/project": "."},
)


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("export HF_TOKEN=hf_abcdefghijklmnop", "export HF_TOKEN=***"),
        ("vllm serve --api-key sk-1234567890abcdefgh --port 1", "vllm serve --api-key *** --port 1"),
        ("--vllm-arg=--hf-token=abcdefgh12", "--vllm-arg=--hf-token=***"),
        ('{"api_key": "abcdefgh12", "max_tokens": 64}', '{"api_key": "***", "max_tokens": 64}'),
        (r'{"log": "{\"secret\": \"abcdefgh12\"}"}', r'{"log": "{\"secret\": \"***\"}"}'),
        ("Authorization: Bearer abcdefgh.12", "Authorization: Bearer ***"),
        ("a correct horse battery staple", "a *** staple"),
        ("cloned with ghp_abcdefghijklmnopqrst", "cloned with ***"),
        ("/data/alice/project/.venv/bin/python", "./.venv/bin/python"),
        ("/data/alice/.cache/x and /data/alice2", "~/.cache/x and /data/alice2"),
        ("/home/bob/models, /Users/bob, '/root/.cache'", "~/models, ~, '~/.cache'"),
        ("[GPU-BOX-7] NCCL; http://gpu-box-7.example.org:8000", "[<host>] NCCL; http://<host>:8000"),
        ("mq_connect_ip=192.0.2.2 (local)", "mq_connect_ip=<address> (local)"),
    ],
)
def test_hidden(text: str, hidden: str) -> None:
    """Secrets by name and by shape, folders of users, hosts and their addresses."""
    assert SOMEWHERE.hide(text) == hidden


@pytest.mark.parametrize(
    "text",
    [
        "http://127.0.0.1:8000 and 0.0.0.0",
        "nvidia-cublas-cu12==12.8.4.1",
        "The key: understanding. A basic knowledge of Bearer mountains.",
        '{"prompt_tokens": 123456789, "tokenizer": "some/where", "token_id": 21935}',
        "PROMPT_TOKEN_IDS = [1234567890, 2]",
        "/usr/bin/python /rooted :root { color: red }",
    ],
)
def test_left_alone(text: str) -> None:
    """What only resembles something private stays: it is the evidence."""
    assert SOMEWHERE.hide(text) == text


@given(
    st.dictionaries(
        st.sampled_from(["api_key", "text", "hf_token", "path", "t"]),
        st.one_of(st.text(), st.floats(allow_nan=False), st.none(), st.lists(st.integers())),
    )
)
def test_json_stays_json(content: dict[str, object]) -> None:
    """Whatever is taken out of a line of a history, the line can still be read."""
    hidden = json.loads(SOMEWHERE.hide(json.dumps(content)))
    assert hidden.keys() == content.keys()


def test_this_machine_is_known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its name, its user's folder, and the secrets of its environment."""
    monkeypatch.setenv("SOME_API_KEY", "abcdefgh-ijkl")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(socket, "gethostname", lambda: "node-0815")
    text = f"{tmp_path}/x abcdefgh-ijkl node-0815"
    assert Private.of_this_machine().hide(text) == "~/x *** <host>"

"""Secrets stay out of what is written."""

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.redaction import (
    HIDDEN,
    hide,
    is_secret_name,
    secret_values,
    shell_command,
    without_secret_flags,
)

SECRETS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=8, max_size=30)


@pytest.mark.parametrize(
    "name", ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "AWS_SECRET_ACCESS_KEY", "--api-key", "PASSWORD"]
)
def test_secret_names(name: str) -> None:
    """Names under which tools keep tokens, keys and passwords are known."""
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name", ["TOKENIZERS_PARALLELISM", "--tokenizer", "KEYBOARD", "--max-num-batched-tokens"]
)
def test_innocent_names(name: str) -> None:
    """A name that merely resembles one is not a secret."""
    assert not is_secret_name(name)


@given(secrets=st.sets(SECRETS.filter(lambda text: not set(text) <= {"*"}), max_size=5), text=st.text())
def test_hidden_values_are_gone(secrets: set[str], text: str) -> None:
    """No secret is left in a text that held them all."""
    result = hide(text + " ".join(sorted(secrets)), secrets)
    assert all(secret not in result for secret in secrets)


@given(secret=SECRETS.filter(lambda text: "*" not in text and not text.startswith("--")))
def test_command_shows_no_secret(secret: str) -> None:
    """A command hides the values of secret variables and flags, wherever they occur."""
    argv = ["vllm", "--hf-token", secret, f"--some-key={secret}", "--tokenizer", "slow"]
    shown = shell_command(argv, {"HF_TOKEN": secret, "MODE": "a b"})
    assert shlex.split(shown) == [
        f"HF_TOKEN={HIDDEN}",
        "MODE=a b",
        "vllm",
        "--hf-token",
        HIDDEN,
        f"--some-key={HIDDEN}",
        "--tokenizer",
        "slow",
    ]


@given(argv=st.lists(st.text(st.characters(codec="ascii", exclude_categories=["Cc"])), min_size=1))
def test_command_without_secrets_is_exact(argv: list[str]) -> None:
    """A shell that reads the command gets exactly the words the engine gets."""
    words = [word for word in argv if not word.startswith("-")]
    assert shlex.split(shell_command(words, {})) == words


def test_short_values_are_no_secrets() -> None:
    """A short value would hide innocent words of a log, and keeps no secret worth keeping."""
    assert secret_values({"API_KEY": "none", "HF_TOKEN": "hf_01234567"}) == {"hf_01234567"}


def test_a_secret_flag_inside_another_flag_is_found() -> None:
    """What the harness passes on to vLLM is looked through as well."""
    argv = ["run", "--vllm-arg=--api-key=hunter2hunter2", "--vllm-arg=--block-size=64", "a=b"]
    shown = ["run", "--vllm-arg=--api-key=***", "--vllm-arg=--block-size=64", "a=b"]
    assert list(without_secret_flags(argv)) == shown

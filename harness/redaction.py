"""Keeps tokens and keys out of commands, logs and facts."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence

HIDDEN = "***"

_SECRET_NAME = re.compile(
    r"(?:^|[_.-])(?:token|key|headers?|secret|passw(?:or)?d|credentials?|webhook)(?:$|[_.-])", re.IGNORECASE
)
_SHORTEST_SECRET = 8  # anything shorter would also hide innocent words of a log


def is_secret_name(name: str) -> bool:
    """Whether a variable or flag of this name holds a secret: ``HF_TOKEN``, ``--api-key``."""
    return _SECRET_NAME.search(name.lstrip("-")) is not None


def secret_values(env: Mapping[str, str]) -> frozenset[str]:
    """Return the values in ``env`` that must never be written anywhere."""
    return frozenset(
        value for name, value in env.items() if is_secret_name(name) and len(value) >= _SHORTEST_SECRET
    )


def hide(text: str, secrets: Iterable[str]) -> str:
    """Return ``text`` with every secret value replaced; the longest first, as one may hold another."""
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return text


def shell_command(argv: Sequence[str], env: Mapping[str, str]) -> str:
    """Return a command that can be pasted into a shell once its secrets are filled in."""
    secrets = secret_values(env)
    variables = [
        f"{name}={shlex.quote(HIDDEN if is_secret_name(name) else hide(env[name], secrets))}"
        for name in sorted(env)
    ]
    words = [shlex.quote(hide(word, secrets)) for word in without_secret_flags(argv)]
    return " ".join([*variables, *words])


def without_secret_flags(argv: Sequence[str]) -> Iterator[str]:
    """Yield ``argv`` with the values of secret flags replaced, as in ``--vllm-arg=--api-key=...`` too."""
    after_secret_flag = False
    for word in argv:
        yield HIDDEN if after_secret_flag and not word.startswith("--") else _without_secret_value(word)
        after_secret_flag = word.startswith("-") and "=" not in word and is_secret_name(word)


def _without_secret_value(word: str) -> str:
    flag, equals, value = word.partition("=")
    if not equals or not flag.startswith("-"):
        return word
    return f"{flag}={HIDDEN if is_secret_name(flag) else _without_secret_value(value)}"

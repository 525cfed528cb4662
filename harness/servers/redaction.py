"""Keeps tokens and keys out of commands, logs and facts."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence

HIDDEN = "***"

_SECRET_NAME = re.compile(
    r"(?:^|[_.-])(?:token|key|secret|passw(?:or)?d|credentials?)(?:$|[_.-])", re.IGNORECASE
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
    variables = [
        f"{name}={HIDDEN if is_secret_name(name) else shlex.quote(env[name])}" for name in sorted(env)
    ]
    words = [shlex.quote(word) if word != HIDDEN else word for word in _without_secret_flags(argv)]
    return hide(" ".join([*variables, *words]), secret_values(env))


def _without_secret_flags(argv: Sequence[str]) -> list[str]:
    words: list[str] = []
    hide_next = False
    for word in argv:
        flag, equals, _ = word.partition("=")
        names_secret = word.startswith("-") and is_secret_name(flag)
        if hide_next and not word.startswith("-"):
            words.append(HIDDEN)
        elif names_secret and equals:
            words.append(f"{flag}={HIDDEN}")
        else:
            words.append(word)
        hide_next = names_secret and not equals
    return words

"""Keeps keys out of the machine's list of processes, where every user can read the command line of others."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import NamedTuple

_KEY, _HEADER, _WEBHOOK = "--api-key", "--header", "--webhook"


class Call(NamedTuple):
    """A command with its environment."""

    argv: list[str]
    environ: dict[str, str]


def with_secrets_in_environment(argv: Sequence[str], environ: Mapping[str, str]) -> Call | None:
    """The same call with its key, headers and webhook in the environment, which only its owner can read.

    Returns:
        None where the command line holds none of them.
    """
    kept: list[str] = []
    values: dict[str, list[str]] = {_KEY: [], _HEADER: [], _WEBHOOK: []}
    words = iter(argv)
    for word in words:
        if word == "--":
            kept += [word, *words]
            break
        flag, equals, value = word.partition("=")
        following = value if equals else next(words, None) if flag in values else None
        if flag in values and following is not None:
            values[flag].append(following)
        else:
            kept.append(word)
    moved = {}
    if values[_KEY]:
        moved["SLEEPWAKE_API_KEY"] = values[_KEY][-1]
    if values[_HEADER]:
        moved["SLEEPWAKE_HEADERS"] = shlex.join(values[_HEADER])
    if values[_WEBHOOK]:
        moved["SLEEPWAKE_WEBHOOK"] = values[_WEBHOOK][-1]
    return Call(kept, {**environ, **moved}) if moved else None


def hide_secrets() -> None:
    """Begin again with the secrets of the command line in the environment; return where there are none."""
    call = with_secrets_in_environment(sys.orig_argv, os.environ)
    if call is not None and os.name == "posix":
        os.execve(sys.executable, call.argv, call.environ)  # noqa: S606 - the same program once more

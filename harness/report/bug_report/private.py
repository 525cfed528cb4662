"""What names this machine, its user or a secret, taken out of everything that is handed on."""

from __future__ import annotations

import ipaddress
import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.redaction import HIDDEN, hide, secret_values

HOST = "<host>"
ADDRESS = "<address>"

_HOME = re.compile(r"/(?:home|Users)/[^/\s\"'\\:,;<>|]+|(?<![\w./-])/root(?=/|\b)")
_ADDRESS = re.compile(r"(?<![\d.])(?<!==)\d{1,3}(?:\.\d{1,3}){3}(?![\d.])")
"""Not behind ``==``: packages may have versions of four numbers."""
_CONFIDENTIAL = r"(?:[\w.-]*[_.-])?(?:token|key|secret|passw(?:or)?d|credentials?)(?:[_.-][\w.-]*)?"
_VALUE = r"(?![\[({])[^\s\"',;}\]\\<>&]{8,}"
_PAIR = re.compile(rf"(?i)(?<![\w.-])({_CONFIDENTIAL})(\\?[\"']?\s*[=:]\s*\\?[\"']?)({_VALUE})")
_FLAG = re.compile(rf"(?i)(?<!\S)(--?{_CONFIDENTIAL})(\s+)(?!-)({_VALUE})")
_TOKENS = re.compile(
    r"\b(?:hf_\w{16,}|gh[pousr]_\w{16,}|github_pat_\w{16,}|sk-[\w-]{16,}|xox[abprs]-[\w-]{10,}|AKIA[A-Z0-9]{16})"
)
_HEADER = re.compile(r"(?i)(\bauthorization\W+\w+\s+|\bbearer\s+(?=\D*\d))[\w.~+/-]{8,}=*")
_LEAST_HOST = 4
"""Characters; a shorter host name is also part of innocent words."""


def is_telling(host: str) -> bool:
    """Whether a host's name says where something runs."""
    return len(host) >= _LEAST_HOST and not host.startswith(("localhost", "127."))


@dataclass(frozen=True, kw_only=True)
class Private:
    """Names and values that must not be handed on, beside those that can be told by their shape."""

    secrets: frozenset[str] = frozenset()
    hosts: frozenset[str] = frozenset()
    folders: Mapping[str, str]
    """Folders of this machine, and what is written instead."""

    @classmethod
    def of_this_machine(cls) -> Private:
        """What there is to know here."""
        home, here = str(Path.home()), str(Path.cwd())
        folders = {home: "~"} if len(Path(home).parts) > 1 else {}
        if len(Path(here).parts) > 1:
            folders.setdefault(here, ".")
        names = {socket.gethostname(), socket.getfqdn()}
        return cls(
            secrets=secret_values(os.environ),
            hosts=frozenset(filter(is_telling, names)),
            folders=folders,
        )

    def hide(self, text: str) -> str:
        """Return ``text`` without them."""
        text = hide(text, self.secrets)
        text = _HEADER.sub(rf"\1{HIDDEN}", _TOKENS.sub(HIDDEN, text))
        text = _FLAG.sub(_hidden_value, _PAIR.sub(_hidden_value, text))
        # The longer folder first: one may lie in the other.
        for folder in sorted(self.folders, key=len, reverse=True):
            text = re.sub(rf"(?<![\w.-]){re.escape(folder)}(?![\w-])", self.folders[folder], text)
        text = _HOME.sub("~", text)
        for host in sorted(self.hosts, key=len, reverse=True):
            text = re.sub(rf"(?<![\w-]){re.escape(host)}(?![\w-])", HOST, text, flags=re.IGNORECASE)
        return _ADDRESS.sub(_hidden_address, text)


def _hidden_value(found: re.Match[str]) -> str:
    name, between, value = found.groups()
    # "The key: understanding" is a sentence; "api_key: sk-..." and {"key": "..."} are not.
    is_prose = ":" in between and between.strip() == ":" and not re.search(r"[_.-]", name)
    return found[0] if is_prose or _is_number(value) else f"{name}{between}{HIDDEN}"


def _is_number(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True


def _hidden_address(found: re.Match[str]) -> str:
    try:
        address = ipaddress.ip_address(found[0])
    except ValueError:
        return found[0]
    return found[0] if address.is_loopback or address.is_unspecified else ADDRESS

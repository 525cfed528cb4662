"""Text from anywhere, made harmless."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.report.text import end_of, mebibytes, one_line, percent, seconds, shorten, visible
from tests.trying import tries

ANYTHING = st.text(st.characters(categories=None))
"""Every code point there is, lone surrogates included."""

rendering = tries(50)
"""For properties of whole reports: their time depends on the machine, not on the text."""


def shows_itself(text: str) -> bool:
    """Whether no character of ``text`` hides, reorders or controls anything, line breaks apart."""
    hidden = {"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"}
    return not any(unicodedata.category(character) in hidden for character in set(text) - {"\n"})


@given(ANYTHING)
def test_nothing_hidden_is_left(text: str) -> None:
    """Every character that is left shows itself."""
    assert shows_itself(visible(text))


@given(ANYTHING)
def test_one_line_is_one_line(text: str) -> None:
    """What is meant for one line has no line break of any kind."""
    assert len(one_line(text).splitlines()) <= 1


@given(st.text(st.characters(categories=["L", "N", "P", "S", "M", "Zs"])))
def test_what_shows_itself_is_kept(text: str) -> None:
    """Letters, marks, numbers, punctuation and symbols of every script stay as they are."""
    assert visible(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31m", "\\x1b[31m"),
        ("\u202e", "\\u202e"),
        ("\ud800", "\\ud800"),
        ("a\tb\r\n", "a\\tb\\r\n"),
        ("\U000e0041", "\\U000e0041"),
    ],
)
def test_escapes_are_those_of_python(text: str, shown: str) -> None:
    """A hidden character is written the way Python writes it in a string."""
    assert visible(text) == shown


@pytest.mark.parametrize(
    ("share", "written"),
    [(0.0, "0%"), (1.0, "100%"), (0.9999, ">99.9%"), (0.0002, "<0.1%"), (0.5, "50.0%"), (0.0449, "4.5%")],
)
def test_a_percentage_is_never_rounded_to_certainty(share: float, written: str) -> None:
    """Only what is certain is written as 0% or 100%."""
    assert percent(share) == written


def test_shortened_text_says_how_much_is_missing() -> None:
    """Whoever reads a shortened text knows that it is one, and how long the whole is."""
    assert shorten("abcdef", limit=4) == "abcd ... (2 more characters)"
    assert shorten("abcd", limit=4) == "abcd"
    assert end_of("abcdef", limit=4) == "... cdef"


def test_sizes_and_durations_have_units() -> None:
    """Numbers carry their unit, and what was not measured is a dash."""
    assert mebibytes(2048 * 2**20) == "2,048 MiB"
    assert mebibytes(None) == "-"
    assert [seconds(0.04), seconds(12.34), seconds(250)] == ["0.04 s", "12.3 s", "4 min 10 s"]


def test_a_minute_has_sixty_seconds() -> None:
    """What is rounded up to a whole minute is one."""
    assert [seconds(179.7), seconds(239.4)] == ["3 min 0 s", "3 min 59 s"]

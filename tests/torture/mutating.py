"""Damages YAML files the way that people, editors and strangers do: by its grammar, by lines, by bytes."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence

_WORDS = (
    *("0x_", "0o", "0b_", "-_", "+.", "1_", "1e999", "-.inf", ".nan", "~", "null", "true", "no", "''", '""'),
    *("!!omap [x]", "!!bool x", "!!set {a}", "!!binary '='", "!!python/object:os.system x", "!x y", "!<> z"),
    *("&a [*a]", "*a", "&a x", "<<: {a: 1}", "{<<: [*a]}", "[]", "{}", "[[[[[[", "{a: {a: {a: ", "? [a] : b"),
    *("2020-01-01", "12:30:45", "1:2:3", "=", "%", "@", "`", "|", ">", "|9", ">-+", "- -", ": :", "? ?"),
    *('"\\ud800"', '"\\0"', '"\\U00110000"', '"\\x"', "'", '"', "\ufeff", "\u2028", "\x85", "\x07", "\t"),
    *("../../../etc/passwd", "/dev/zero", "corpora/../x.png", "a.png", "9" * 5000, "x" * 5000, "é" * 300),
    *(
        "99999999999999999999",
        "-1",
        "0",
        "1.5",
        "abort",
        "weights",
        "$MODEL",
        "--x",
        "paragraphs",
        "baseline",
    ),
)
"""What stands in the place of another word."""

_LINES = (
    "---",
    "...",
    "%YAML 1.1",
    "%TAG ! tag:x,2000:",
    "? a",
    ": b",
    "- ",
    "<<: *a",
    "  ",
    "a: &a *a",
    "#",
)
_WORD = re.compile(r"[^\s,:\[\]{}]+")
_BRACKET = re.compile(r"[\[\]{},:&*!#'\"|>-]")

Change = Callable[[random.Random, str], str]


def mutated(chance: random.Random, texts: Sequence[str]) -> bytes:
    """One of ``texts``, damaged in one to four ways."""
    text = chance.choice(texts)
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        text = chance.choice(_CHANGES)(chance, text)
    if chance.random() < 0.1:
        text = _spliced(chance, text, chance.choice(texts))
    data = text.encode("utf-8", errors="surrogatepass")
    return _flipped(chance, data) if chance.random() < 0.1 else data


def _other_word(chance: random.Random, text: str) -> str:
    return _replaced(chance, text, _WORD, chance.choice(_WORDS))


def _exchanged_words(chance: random.Random, text: str) -> str:
    words = _WORD.findall(text)
    return _replaced(chance, text, _WORD, chance.choice(words)) if words else text


def _other_bracket(chance: random.Random, text: str) -> str:
    return _replaced(chance, text, _BRACKET, chance.choice(("", *"[]{},:&*!#'\"|>-")))


def _replaced(chance: random.Random, text: str, pattern: re.Pattern[str], by: str) -> str:
    found = list(pattern.finditer(text))
    if not found:
        return by
    chosen = chance.choice(found)
    return text[: chosen.start()] + by + text[chosen.end() :]


def _other_lines(chance: random.Random, text: str) -> str:
    lines = text.splitlines()
    where = chance.randrange(len(lines) + 1)
    match chance.randrange(5):
        case 0:
            del lines[where : where + chance.randint(1, 3)]
        case 1:
            lines[where:where] = lines[where : where + chance.randint(1, 4)]
        case 2:
            lines.insert(where, chance.choice(_LINES))
        case 3:
            chance.shuffle(lines)
        case _:
            lines[where : where + 1] = [
                " " * chance.randint(1, 9) + line for line in lines[where : where + 1]
            ]
    return "\n".join(lines) + "\n"


def _nested(chance: random.Random, text: str) -> str:
    opening = chance.choice(("[", "{a: ", "- ", "[[], ", "? "))
    return _replaced(chance, text, _WORD, opening * chance.choice((2, 31, 33, 1000)) + "x")


def _repeated(chance: random.Random, text: str) -> str:
    separator = chance.choice((", ", "\n- ", " ", "\n", ": "))
    return _replaced(chance, text, _WORD, separator.join(["x"] * chance.choice((10, 300, 3000))))


def _laughing(chance: random.Random, text: str) -> str:
    width, depth = chance.randint(2, 9), chance.randint(2, 12)
    lines = ["b0: &b0 [x]"]
    lines += [f"b{n}: &b{n} [{', '.join([f'*b{n - 1}'] * width)}]" for n in range(1, depth)]
    return "\n".join(lines) + "\n" + _replaced(chance, text, _WORD, f"*b{depth - 1}")


def _cut(chance: random.Random, text: str) -> str:
    return text[: chance.randrange(len(text) + 1)]


def _spliced(chance: random.Random, text: str, other: str) -> str:
    return _cut(chance, text) + other[chance.randrange(len(other) + 1) :]


def _flipped(chance: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(chance.randint(1, 8)):
        if changed:
            changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


_CHANGES: Sequence[Change] = (
    *(_other_word, _other_word, _other_word, _exchanged_words, _exchanged_words),
    *(_other_bracket, _other_bracket, _other_lines, _other_lines),
    *(_nested, _repeated, _laughing, _cut),
)
"""What is done to a text; what is named more often is done more often."""

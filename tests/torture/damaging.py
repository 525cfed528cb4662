"""Damages run directories the way that disks, people and strangers do: by bytes, lines, grammar and files."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

Json = Any  # of a file that may hold anything
Place = tuple[dict[str, Json] | list[Json], str | int]

_VALUES: tuple[Json, ...] = (
    *(
        None,
        True,
        False,
        0,
        -1,
        1.5,
        1e308,
        float("nan"),
        float("-inf"),
        2**70,
        "",
        "clean",
        "nan",
        "x" * 5000,
    ),
    *("../../../etc/passwd", "/dev/zero", "<script>alert(1)</script>", "\ud800", "\0", "\x1b[2J", "é" * 300),
    *([], {}, [[]], [None], {"": None}, "2020-01-01", "sha256:0", "AAAA", "not base64!"),
)
"""What stands in the place of another value."""


def damaged(chance: random.Random, run: Path, *, others: Sequence[Path]) -> str:
    """Damage ``run`` in one or two ways; say how.  Parts of ``others`` may take the place of its own."""
    return ", then ".join(
        chance.choice(_DAMAGES)(chance, run, chance.choice(others)) for _ in range(chance.choice((1, 1, 2)))
    )


def _files(run: Path) -> list[Path]:
    """Those that are read: ``run.json`` and the histories, and what an earlier judgement left."""
    return sorted(path for path in run.rglob("*") if path.is_file() and path.suffix in {".json", ".jsonl"})


def _chosen(chance: random.Random, run: Path) -> Path | None:
    files = _files(run)
    return chance.choice(files) if files else None


def _flipped(chance: random.Random, run: Path, _: Path) -> str:
    if (file := _chosen(chance, run)) is None or not (content := bytearray(file.read_bytes())):
        return "nothing to flip"
    where = [chance.randrange(len(content)) for _ in range(chance.choice((1, 1, 8)))]
    for each in where:
        content[each] ^= 1 << chance.randrange(8)
    file.write_bytes(content)
    return f"{file.name}: bits of bytes {where} flipped"


def _truncated(chance: random.Random, run: Path, _: Path) -> str:
    if (file := _chosen(chance, run)) is None:
        return "nothing to truncate"
    content = file.read_bytes()
    kept = chance.randrange(len(content) + 1)
    file.write_bytes(content[:kept])
    return f"{file.name}: cut after {kept} of {len(content)} bytes"


def _other_lines(chance: random.Random, run: Path, other: Path) -> str:
    histories = [file for file in _files(run) if file.suffix == ".jsonl"]
    if not histories:
        return "no lines"
    file = chance.choice(histories)
    lines = file.read_bytes().splitlines(keepends=True)
    first, second = (chance.randrange(len(lines) + 1) for _ in range(2))
    match chance.randrange(5):
        case 0:
            how = "lost"
            del lines[first : first + chance.choice((1, 1, 5))]
        case 1:
            how = "doubled"
            lines[first:first] = lines[second : second + chance.choice((1, 1, 5))]
        case 2:
            how = "exchanged"
            if lines:
                first, second = first % len(lines), second % len(lines)
                lines[first], lines[second] = lines[second], lines[first]
        case 3:
            how = "shuffled"
            chance.shuffle(lines)
        case _:
            how = f"from {other.name} put in"
            theirs = [line for each in other.rglob("*.jsonl") for line in each.read_bytes().splitlines(True)]
            lines[first:first] = chance.sample(theirs, k=min(3, len(theirs)))
    file.write_bytes(b"".join(lines))
    return f"{file.name}: lines {how} at {first}"


def _other_value(chance: random.Random, run: Path, _: Path) -> str:
    """Something else in one place of what stays JSON."""
    if (file := _chosen(chance, run)) is None:
        return "no values"
    by_line = file.suffix == ".jsonl"
    texts = file.read_text(errors="replace").splitlines() if by_line else [file.read_text(errors="replace")]
    number = chance.randrange(len(texts)) if texts else 0
    try:
        tree = json.loads(texts[number])
    except (ValueError, IndexError):
        return f"{file.name}: no JSON any more"
    found = list(_places(tree))
    if not found:
        return f"{file.name}: no values"
    container, key = chance.choice(found)
    how = _changed(chance, container, key, chance.choice(found))
    texts[number] = json.dumps(tree)
    file.write_text("".join(f"{text}\n" for text in texts))
    return f"{file.name}: {how} in line {number + 1}"


def _changed(chance: random.Random, container: dict[str, Json] | list[Json], key: Any, other: Place) -> str:
    """Change what stands at ``key``; say how."""
    value = container[key]
    match chance.randrange(6):
        case 0:
            del container[key]
            return f"{key} lost"
        case 1:
            container[key] = deepcopy(other[0][other[1]])  # type: ignore[index] # a key of just this container
            return f"{key} as {other[1]}"
        case 2:
            if isinstance(container, dict):
                container[f"{key}_"] = container.pop(key)
            return f"{key} renamed"
        case 3:
            container[key] = [value]
            return f"{key} in a list"
        case 4 if isinstance(value, int | float):
            container[key] = chance.choice((-value, value + 1, value * 1e9, str(value)))
            return f"{key}: another number"
        case _:
            container[key] = chance.choice(_VALUES)
            return f"{key} = {str(container[key])[:20]!r}"


def _places(tree: Json) -> Iterator[Place]:
    """Every key of every object and every index of every list."""
    inside = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in inside:
        yield tree, key
        yield from _places(value)


def _other_file(chance: random.Random, run: Path, other: Path) -> str:
    """A file is gone, or is something else."""
    if (file := _chosen(chance, run)) is None:
        return "no files"
    file.unlink()
    theirs = [each for each in _files(other) if each.name == file.name]
    instead: dict[str, Callable[[], object]] = {
        "is missing": lambda: None,
        "is empty": file.touch,
        "is a folder": file.mkdir,
        "links to itself": lambda: file.symlink_to(file.name),
        "links to a file without end": lambda: file.symlink_to("/dev/zero"),
        "and its folder are missing": lambda: shutil.rmtree(file.parent),
        f"is that of {other.name}": lambda: shutil.copy(theirs[0], file) if theirs else None,
    }
    how = chance.choice(list(instead))
    instead[how]()
    return f"{file.name} {how}"


_DAMAGES: Sequence[Callable[[random.Random, Path, Path], str]] = (
    *(_flipped, _truncated, _other_lines, _other_lines),
    *(_other_value, _other_value, _other_value, _other_value, _other_file),
)
"""What is done to a run; what is named more often is done more often."""

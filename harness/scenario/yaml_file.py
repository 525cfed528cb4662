"""Reads YAML into plain containers that still know where in the file everything stands.

ruamel.yaml parses; what its events say is built up here, because a file may come from anybody.  Depth and
the number of nodes, aliases counted at what they stand for, are bounded before anything is built, and
whatever the library trips over is an error with a place.  Of YAML, what JSON can say is taken: no tags,
merge keys, directives, dates, infinite numbers, nor keys that are not text.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, StringMark
from ruamel.yaml.events import (
    AliasEvent,
    CollectionStartEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)
from ruamel.yaml.nodes import ScalarNode
from ruamel.yaml.reader import ReaderError
from ruamel.yaml.resolver import VersionedResolver

from harness.errors import ScenarioError
from harness.scenario.reading import MEBIBYTE, read_file

MOST_BYTES = MEBIBYTE
MOST_NODES = 10_000
MOST_DEPTH = 32
MOST_KEY_LENGTH = 256

Key = int | str
"""A key of a mapping, or the number of an item."""
Place = tuple[int, int]
"""Line and column, counted from 1."""

_PREFIX = "tag:yaml.org,2002:"
_TYPED = frozenset(f"{_PREFIX}{name}" for name in ("null", "bool", "int", "float"))
"""What a word without quotes may be besides text."""


@dataclass(frozen=True, kw_only=True)
class YamlFile:
    """What a YAML file says, in plain containers, and where."""

    path: Path
    data: object
    places: Mapping[int, Mapping[Key, Place]] = field(repr=False)
    """Of each container, by its identity, where its keys or items stand."""
    begins: Place = (1, 1)

    def location(self, keys: Sequence[Key] = (), *, missing: bool = False) -> str:
        """``file:line:column`` of what ``keys`` lead to, from the top, or of the nearest thing around it.

        Of a key that should be there and is ``missing``, that is where it would stand.
        """
        node, place = self.data, self.begins
        for key in keys:
            known = self.places.get(id(node), {}) if isinstance(node, dict | list) else {}
            if key in known:
                place = known[key]
            elif missing:
                break
            node = _inside(node, key)
        return _location(self.path, place)

    def at(self, keys: Sequence[Key]) -> object:
        """What ``keys`` lead to; None where they lead to nothing."""
        node = self.data
        for key in keys:
            node = _inside(node, key)
        return node


def load_yaml(path: Path, *, within: Path | None = None) -> YamlFile:
    """Read one YAML file, which must lie ``within`` a folder, wherever links lead.

    Raises:
        FileNotFoundError: there is no such file.
        ScenarioError: it cannot be read, or is not YAML of the kind that is taken here.
    """
    content = read_file(path, most_bytes=MOST_BYTES, location=str(path), within=within)
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        before = content[: error.start].decode("utf-8")
        raise _refused(path, _place_of(before), "cannot be read: not UTF-8", "save it as UTF-8") from error
    builder = _Builder(path)
    for event in _events(path, text):
        builder.take(event)
    return builder.finished()


def _events(path: Path, text: str) -> Iterator[Event]:
    yaml = YAML(typ="safe", pure=True)
    events = yaml.parse(text)
    while True:
        try:
            event = next(events, None)
        except MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            problem = (error.problem or "not YAML").split("\n")[0]
            raise _refused(path, _marked(mark) if mark else (1, 1), problem) from error
        except ReaderError as error:
            where = _place_of(text[: error.position])
            raise _refused(path, where, "a character that YAML does not allow") from error
        except Exception as error:  # the library's own slips, of whatever type, are about this file
            where = (yaml.reader.line + 1, yaml.reader.column + 1)
            raise _refused(path, where, f"not YAML ({type(error).__name__}: {error})") from error
        if event is None:
            return
        yield event


@dataclass(kw_only=True)
class _Open:
    """A container whose end has not been seen."""

    container: dict[str, object] | list[object]
    place: Place
    anchor: str | None
    nodes: int = 1
    key: str | None = None
    places: dict[Key, Place] = field(default_factory=dict)


class _Builder:
    """Makes containers of events; refuses what goes beyond the bounds as soon as it is seen."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._resolver = VersionedResolver(version=(1, 2))
        self._constructor = YAML(typ="safe", pure=True).constructor
        self._open: list[_Open] = []
        self._anchors: dict[str, tuple[object, int] | None] = {}
        """What an alias stands for, and how many nodes that are; None while it is being built."""
        self._places: dict[int, Mapping[Key, Place]] = {}
        self._documents: list[object] = []
        self._begins: Place = (1, 1)
        self._nodes = 0

    def finished(self) -> YamlFile:
        """The file, once every event has been taken."""
        return YamlFile(
            path=self._path,
            data=self._documents[0] if self._documents else None,
            places=self._places,
            begins=self._begins,
        )

    def take(self, event: Event) -> None:
        """Take the next event."""
        place = _marked(event.start_mark)
        if isinstance(event, DocumentStartEvent):
            if self._documents:
                raise self._refused(place, "a second document begins here", "keep one document")
            if event.version or event.tags:
                raise self._refused(place, "directives are not supported", "remove the line with %")
        elif isinstance(event, NodeEvent):
            self._take_node(event, place)
        elif isinstance(event, MappingEndEvent | SequenceEndEvent):
            self._close()

    def _take_node(self, event: NodeEvent, place: Place) -> None:
        if not self._open:
            self._begins = place
        if isinstance(event, AliasEvent):
            self._add(*self._anchored(event, place), place)
            return
        if isinstance(event, CollectionStartEvent | ScalarEvent) and event.tag is not None:
            raise self._refused(place, f"tags such as {event.tag} are not supported", "remove the tag")
        if isinstance(event, MappingStartEvent | SequenceStartEvent):
            if len(self._open) == MOST_DEPTH:
                raise self._refused(place, f"nested more than {MOST_DEPTH} deep", "nest less")
            container: dict[str, object] | list[object] = {} if isinstance(event, MappingStartEvent) else []
            self._expect_no_key(place)
            self._open.append(_Open(container=container, place=place, anchor=event.anchor))
            if event.anchor:
                self._anchors[event.anchor] = None
        elif isinstance(event, ScalarEvent):
            value = self._scalar(event, place)
            if event.anchor:
                self._anchors[event.anchor] = (value, 1)
            self._add(value, 1, place)

    def _anchored(self, event: AliasEvent, place: Place) -> tuple[object, int]:
        if event.anchor not in self._anchors:
            raise self._refused(place, f"nothing is called {event.anchor}", "name an anchor above")
        found = self._anchors[event.anchor]
        if found is None:
            raise self._refused(place, f"{event.anchor} would contain itself", "write it out")
        return found

    def _expect_no_key(self, place: Place) -> None:
        around = self._open[-1] if self._open else None
        if around is not None and isinstance(around.container, dict) and around.key is None:
            raise self._refused(place, "a key must be text", "write a word before the colon")

    def _close(self) -> None:
        closed = self._open.pop()
        self._places[id(closed.container)] = closed.places
        if closed.anchor:
            self._anchors[closed.anchor] = (closed.container, closed.nodes)
        # Its parts were counted as they came.
        self._nodes -= closed.nodes - 1
        self._add(closed.container, closed.nodes, closed.place)

    def _add(self, value: object, nodes: int, place: Place) -> None:
        self._nodes += nodes
        if self._nodes > MOST_NODES:
            raise self._refused(
                place, f"more than {MOST_NODES} values, aliases counted in full", "make it smaller"
            )
        if not self._open:
            self._documents.append(value)
            return
        around = self._open[-1]
        around.nodes += nodes
        if isinstance(around.container, list):
            around.places[len(around.container)] = place
            around.container.append(value)
        elif around.key is None:
            around.key = self._new_key(value, around, place)
            around.places[around.key] = place
        else:
            around.container[around.key] = value
            around.key = None

    def _new_key(self, value: object, around: _Open, place: Place) -> str:
        if not isinstance(value, str):
            raise self._refused(place, "a key must be text", "put it in quotes")
        if value == "<<":
            raise self._refused(place, "merge keys (<<) are not supported", "write the keys out")
        if len(value) > MOST_KEY_LENGTH:
            raise self._refused(place, f"a key of more than {MOST_KEY_LENGTH} characters", "shorten it")
        if value in around.places:
            raise self._refused(place, f"duplicate key `{value}`", "remove one of them")
        return value

    def _scalar(self, event: ScalarEvent, place: Place) -> object:
        text: str = event.value
        if "\0" in text or not _is_unicode(text):
            raise self._refused(place, "a character that no program takes", "remove the escape")
        tag = self._resolver.resolve(ScalarNode, text, event.implicit)
        if str(tag) not in _TYPED:
            return text
        try:
            value: object = self._constructor.construct_object(
                ScalarNode(tag, text, event.start_mark, event.end_mark)
            )
        except Exception as error:  # the library's own slips, of whatever type, are about this word
            raise self._refused(
                place, f"{text[:40]!r} is not what it looks like", "put it in quotes"
            ) from error
        if isinstance(value, float) and not math.isfinite(value):
            raise self._refused(place, f"{text} is not a finite number", "write a number")
        return value

    def _refused(self, place: Place, cause: str, remedy: str) -> ScenarioError:
        return _refused(self._path, place, cause, remedy)


def _inside(node: object, key: Key) -> object:
    if isinstance(node, dict):
        return node.get(key)
    if isinstance(node, list) and isinstance(key, int) and key < len(node):
        return node[key]
    return None


def _is_unicode(text: str) -> bool:
    """Whether it can be written: YAML's escapes can name halves of characters."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _refused(path: Path, place: Place, cause: str, remedy: str = "correct the YAML") -> ScenarioError:
    return ScenarioError(cause, location=_location(path, place), remedy=remedy)


def _location(path: Path, place: Place) -> str:
    return f"{path}:{place[0]}:{place[1]}"


def _marked(mark: StringMark) -> Place:
    return mark.line + 1, mark.column + 1


def _place_of(before: str) -> Place:
    """Where the character stands that follows ``before``."""
    return before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1

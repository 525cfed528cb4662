"""Reading YAML that anybody may have written: every refusal has a place, and comes before the work."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

import pytest

from harness.errors import ScenarioError
from harness.scenario import yaml_file
from harness.scenario.yaml_file import YamlFile, load_yaml


def read(folder: Path, text: str) -> YamlFile:
    """Write ``text`` to a file and read it."""
    path = folder / "file.yaml"
    path.write_text(text, encoding="utf-8")
    return load_yaml(path)


def refusal(folder: Path, text: str) -> ScenarioError:
    """The error that reading ``text`` gives."""
    with pytest.raises(ScenarioError) as caught:
        read(folder, text)
    return caught.value


def test_values_are_those_of_json(tmp_path: Path) -> None:
    """Words without quotes are null, booleans and numbers as in YAML 1.2; everything else is text."""
    text = "a: [~, true, 0x1f, 0o17, 010, 1_0, 1.5, 'true', 2020-01-01, no, =]\nb: {c: |\n  d\n  }\n"
    with pytest.raises(ScenarioError):
        read(tmp_path, text)
    file = read(tmp_path, text.replace("{c: |\n  d\n  }", "\n  c: |\n    d"))
    assert file.data == {
        "a": [None, True, 31, 15, 10, 10, 1.5, "true", "2020-01-01", "no", "="],
        "b": {"c": "d\n"},
    }


def test_an_alias_is_what_it_stands_for(tmp_path: Path) -> None:
    """What is anchored can be said once and meant several times, and is found where it stands."""
    file = read(tmp_path, "a: &x [1, 2]\nb: *x\nc: &y word\nd: *y\n")
    assert file.data == {"a": [1, 2], "b": [1, 2], "c": "word", "d": "word"}
    assert file.location(["b"]).endswith(":2:1")
    assert file.location(["b", 1]).endswith(":1:11")


def test_places_lead_to_keys_and_items(tmp_path: Path) -> None:
    """The place of what is there, and of the nearest thing around what is not."""
    file = read(tmp_path, "# why\na:\n  b: [x, {c: 1}]\n")
    assert file.location().endswith(":2:1")
    assert file.location(["a", "b", 1, "c"]).endswith(":3:11")
    assert file.location(["a", "absent"], missing=True).endswith(":2:1")
    assert file.at(["a", "b", 1]) == {"c": 1}
    assert file.at(["a", "absent", 3]) is None


@pytest.mark.parametrize(
    ("text", "place", "says"),
    [
        ("name: 0x_\n", "1:7", "'0x_' is not what it looks like"),
        ("name: " + "1" * 5000, "1:7", "is not what it looks like"),
        ("a: !!bool x\n", "1:4", "tags such as"),
        ("a: 1\nb: !!omap [x]\n", "2:4", "tags such as"),
        ("a: !own {}\n", "1:4", "tags such as"),
        ("sources: &a [*a]\n", "1:14", "a would contain itself"),
        ("a: *b\n", "1:4", "nothing is called b"),
        ("<<: {a: 1}\n", "1:1", "merge keys"),
        ("a: 1\na: 2\n", "2:1", "duplicate key `a`"),
        ("1: 2\n", "1:1", "a key must be text"),
        ("? [a]\n: 2\n", "1:3", "a key must be text"),
        ("? &a [x]\n: 2\n", "1:3", "a key must be text"),
        (f"? {'k' * 300}\n: 2\n", "1:3", "a key of more than 256"),
        ("%YAML 1.1\n---\na: yes\n", "2:1", "directives"),
        ("%TAG !e! tag:example.com,2000:\n---\na: 1\n", "2:1", "directives"),
        ("a: 1\n---\nb: 2\n", "2:1", "a second document"),
        ("a: .inf\n", "1:4", "not a finite number"),
        ("a: 1e999\n", "1:4", "not a finite number"),
        ('a: "\\0"\n', "1:4", "a character that no program takes"),
        ('a: "\\ud800"\n', "1:4", "a character that no program takes"),
        ("a: 1\nb: \x07\n", "2:4", "a character that YAML does not allow"),
        ('a: "\\U00110000"\n', "1:", "not YAML"),
        ("a: [\n", "2:1", "expected"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_place(
    tmp_path: Path, text: str, place: str, says: str
) -> None:
    """Whatever the YAML library says to it, or trips over, becomes an error of ours."""
    error = refusal(tmp_path, text)
    assert error.location.startswith(f"{tmp_path / 'file.yaml'}:{place}")
    assert says in str(error)


def test_bytes_that_are_not_utf_8_have_a_place(tmp_path: Path) -> None:
    """The first byte that is none is pointed at."""
    path = tmp_path / "file.yaml"
    path.write_bytes(b"a: 1\nb: \xff\n")
    with pytest.raises(ScenarioError, match="UTF-8") as caught:
        load_yaml(path)
    assert caught.value.location == f"{path}:2:4"


LAUGHS = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10)
)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[" * 20_000, "nested more than 32 deep"),
        ("a: " + "{a: " * 20_000, "nested more than 32 deep"),
        ("".join(f"{' ' * n}a:\n" for n in range(500)), "nested more than 32 deep"),
        (LAUGHS, "more than 500 values"),
        ("a: [" + "x, " * 100_000 + "]", "more than 500 values"),
        ("# " + "x" * yaml_file.MOST_BYTES, "more than 1 MiB"),
    ],
    ids=["sequences", "mappings", "blocks", "laughs", "values", "bytes"],
)
def test_what_is_too_much_is_refused_before_it_is_built(
    tmp_path: Path, text: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Deep nesting, aliases of aliases and sheer size are noticed while they are read."""
    monkeypatch.setattr(yaml_file, "MOST_NODES", 500)
    assert says in str(refusal(tmp_path, text))


def test_refusing_aliases_of_aliases_takes_no_memory(tmp_path: Path) -> None:
    """Nine to the tenth power of values would not fit anywhere: none of them is made."""
    tracemalloc.start()
    try:
        refusal(tmp_path, LAUGHS)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 10 * 2**20


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    """Only an ordinary file is read: a pipe or a device may never end."""
    os.mkfifo(tmp_path / "pipe.yaml")
    for path in (tmp_path / "pipe.yaml", Path("/dev/zero"), tmp_path):
        with pytest.raises(ScenarioError, match=r"not a regular file"):
            load_yaml(path)


def test_a_link_that_leads_out_is_not_followed(tmp_path: Path) -> None:
    """Where a file has to lie within a folder, a link to elsewhere is refused without reading it."""
    folder = tmp_path / "inside"
    folder.mkdir()
    (tmp_path / "secret.yaml").write_text("a: 1\n")
    (folder / "link.yaml").symlink_to(tmp_path / "secret.yaml")
    (folder / "loop.yaml").symlink_to(folder / "loop.yaml")
    with pytest.raises(ScenarioError, match="lies outside"):
        load_yaml(folder / "link.yaml", within=folder)
    with pytest.raises(ScenarioError, match="cannot be read"):
        load_yaml(folder / "loop.yaml", within=folder)

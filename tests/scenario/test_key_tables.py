"""The tables of keys in ``scenarios/README.md``."""

from __future__ import annotations

from tests.scenario.key_tables import README, with_tables


def test_the_readme_shows_every_key_as_the_schema_has_it() -> None:
    """Run ``python -m tests.scenario.key_tables`` after a change to the schema."""
    text = README.read_text(encoding="utf-8")
    assert with_tables(text) == text


def test_every_key_is_explained() -> None:
    """No key or option stands there without saying what it means."""
    rows = [
        line for line in with_tables(README.read_text(encoding="utf-8")).splitlines() if "| `" in line[:4]
    ]
    assert [row for row in rows if row.endswith("|  |")] == []
    assert {"`concurrency`", "`arms.NAME.args`", "`sampling.seed`"} <= {
        row.split(" | ")[0][2:] for row in rows
    }

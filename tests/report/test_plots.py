"""Plots as inline SVG."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest
from markupsafe import Markup

from harness.check.evidence import Evidence
from harness.history.recording import Recording
from harness.report.changes import Agreement, Shape, agreements, shapes
from harness.report.plots import agreement_plot, memory_plots, shape_plots
from tests.report import examples


@pytest.fixture
def recording() -> Recording:
    """A cell in which two prompts changed."""
    return examples.recording(stuck=("india", "rivers"))


def parsed(picture: Markup) -> ET.Element:
    """A picture as a parser sees it."""
    return ET.fromstring(str(picture))  # noqa: S314 - our own drawing


def words(picture: Markup) -> list[str]:
    """Every text of a picture."""
    return ["".join(element.itertext()) for element in parsed(picture).iter("text")]


def test_agreement_shows_where_each_answer_parts(recording: Recording) -> None:
    """A field a prompt and pass: the index of the first difference, or an equals sign."""
    said = words(agreement_plot(agreements(Evidence(recording))))
    assert {"india", "rivers", "bread", "glaciers"} <= set(said)
    assert said.count("=") == 20
    assert (said.count("0"), said.count("1")) == (2, 2)
    assert any(text.endswith("cycle 1, warm") for text in said)


def test_fields_of_many_cycles_are_as_wide_as_what_stands_in_them() -> None:
    """Forty passes make a wide picture, which scrolls, and not one in which numbers cover each other."""
    fields = [
        Agreement(
            prompt="india", pass_number=number, occasion=f"cycle {number}", share=0.5, first_difference=100
        )
        for number in range(40)
    ]
    few, many = (float(parsed(agreement_plot(fields[:count])).attrib["width"]) for count in (2, 40))
    assert many - few > 40 * 26 - 2 * 36 - 1


def test_shapes_show_both_sides(recording: Recording) -> None:
    """Length and repetition have an axis each, and a legend that names the sides."""
    length, repetition = map(words, shape_plots(shapes(Evidence(recording))))
    assert {"tokens in the answer", "baseline", "after", "india"} <= set(length)
    assert {"% of 4-grams that repeat", "baseline", "after", "india"} <= set(repetition)


def test_memory_shades_the_phases_asleep(recording: Recording) -> None:
    """Both sleeps are shaded, also in the picture for phones."""
    wide, narrow = memory_plots(recording)
    for picture in (wide, narrow):
        assert picture.count('fill="var(--asleep)"') == 2
        assert "seconds since the cell started" in words(picture)
    assert float(parsed(narrow).attrib["width"]) < 300 < float(parsed(wide).attrib["width"])


def test_pictures_follow_the_page_and_refer_to_nothing(recording: Recording) -> None:
    """Colours are the page's properties, a label says what there is to see, and no address is left."""
    evidence = Evidence(recording)
    for picture in (
        agreement_plot(agreements(evidence)),
        *shape_plots(shapes(evidence)),
        *memory_plots(recording),
    ):
        assert parsed(picture).get("role") == "img"
        assert parsed(picture).get("aria-label")
        assert not re.search(r"://|url\(|<style|\bid=", picture)
        colours = set(re.findall(r'(?:fill|stroke)="([^"]+)"', picture))
        assert all(colour.startswith("var(--") or colour in {"none", "transparent"} for colour in colours)


def test_nothing_measured_is_no_picture() -> None:
    """A cell that never answered has no plots, rather than empty ones."""
    assert not memory_plots(examples.failed_recording())
    assert not shape_plots([])
    assert not agreement_plot([])


def test_hostile_names_are_text() -> None:
    """A prompt's name is drawn, never obeyed, and prompts with like beginnings stay apart."""
    names = [f"<script>]]>\x1b[31m{'x' * 60}{number}" for number in range(3)]
    fields = [
        Agreement(prompt=name, pass_number=1, occasion="cycle 1", share=0.5, first_difference=3)
        for name in names
    ]
    picture = agreement_plot(fields)
    assert "script" not in {element.tag for element in parsed(picture).iter()}
    assert sum(text.startswith("<script>]]>\\x1b[31m") for text in words(picture)) == 3
    spread = [Shape(prompt=name, side="after", tokens=3, repeated=0.0) for name in names]
    for shaped in shape_plots(spread):
        assert sum(text.startswith("<script>") for text in words(shaped)) == 3


def test_many_prompts_are_limited_to_the_worst() -> None:
    """A picture stays readable: of a thousand prompts the most different ones are drawn."""
    fields = [
        Agreement(prompt=f"p{n}", pass_number=1, occasion="cycle 1", share=n / 1000, first_difference=n)
        for n in range(1000)
    ]
    drawn = [text for text in words(agreement_plot(fields)) if text.startswith("p")]
    assert "p0" in drawn
    assert len(drawn) == 48

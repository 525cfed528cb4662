"""Plots as inline SVG: memory over time, length and repetition, agreement.

Colours are the page's own custom properties, so that a plot follows its light and dark
schemes.  Nothing in a plot refers to anything outside of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import altair as alt
import vl_convert
from markupsafe import Markup, escape

from harness.history.recording import Recording
from harness.report.changes import Agreement, Shape
from harness.report.text import one_line, shorten
from harness.report.timeline import sleep_phases

_PROMPTS_SHOWN = 48
_LABEL = 28
"""Characters of a prompt's name on an axis."""
_WIDTH = 720
_NARROW = 200
"""What a phone has beside the names of prompts, or beside an axis."""
_ROW = 17
_FIELD_LEAST = 26
"""Three digits and a little air."""
_FIELD_MOST = 36
_MIB = 2**20

_CONFIG = alt.Config(
    aria=False,
    background="transparent",
    # The page's font may be wider than the one the drawing was measured with.
    padding={"left": 12, "right": 16, "top": 12, "bottom": 4},
    font="sans-serif",
    view=alt.ViewConfig(stroke=None),
    axis=alt.AxisConfig(
        domainColor="var(--line)",
        gridColor="var(--line)",
        tickColor="var(--line)",
        labelColor="var(--soft)",
        titleColor="var(--soft)",
        labelFontSize=11,
        titleFontSize=11,
        titleFontWeight="normal",
    ),
    legend=alt.LegendConfig(labelColor="var(--soft)", titleColor="var(--soft)", labelFontSize=11, title=None),
    header=alt.HeaderConfig(labelColor="var(--soft)"),
)
_SIDES = alt.Scale(domain=["baseline", "after"], range=["var(--baseline)", "var(--after)"])
_MARKS = alt.Scale(domain=["baseline", "after"], range=["circle", "cross"])


def memory_plots(recording: Recording) -> list[Markup]:
    """Memory over time, the phases asleep shaded and the passes marked; for wide pages, and for phones.

    Nothing without a measurement.
    """
    rows = [
        {"t": seen.t, "memory": size / _MIB, "where": where}
        for seen in recording.observations
        for where, size in (("resident", seen.resident_bytes), ("GPU", seen.device_bytes))
        if size is not None
    ]
    if not rows:
        return []
    return [_memory(recording, rows, width=width) for width in (_WIDTH, _NARROW)]


def _memory(recording: Recording, rows: Sequence[Mapping[str, object]], *, width: int) -> Markup:
    time = alt.X("t:Q", title="seconds since the cell started", scale=alt.Scale(zero=False, nice=False))
    phases = [{"start": phase.start, "end": phase.end} for phase in sleep_phases(recording)]
    asleep = (
        _chart(phases)
        .mark_rect(color="var(--asleep)")
        .encode(x=alt.X("start:Q", title="seconds since the cell started"), x2="end:Q")
    )
    passes = (
        _chart([{"t": each.start.t} for each in recording.passes])
        .mark_rule(color="var(--soft)", strokeDash=[1, 4])
        .encode(x="t:Q")
    )
    line = (
        _chart(rows)
        .mark_line(point=alt.OverlayMarkDef(size=18, filled=True), strokeWidth=1.5)
        .encode(
            x=time,
            y=alt.Y("memory:Q", title="MiB", scale=alt.Scale(zero=True)),
            color=alt.Color(
                "where:N",
                scale=alt.Scale(domain=["resident", "GPU"], range=["var(--baseline)", "var(--after)"]),
                legend=alt.Legend(orient="top") if len({row["where"] for row in rows}) > 1 else None,
            ),
        )
    )
    chart = alt.layer(asleep, passes, line).properties(width=width, height=150)
    return _svg(chart, label="Memory over time; shaded while the engine was asleep.")


def shape_plots(shapes: Sequence[Shape]) -> list[Markup]:
    """Length and repetition of every prompt's answers, baseline beside after; nothing without answers.

    Two pictures, which stand side by side where there is room.
    """
    if not shapes:
        return []
    kept = _few(list(dict.fromkeys(shape.prompt for shape in shapes)))
    rows = [
        {
            "prompt": kept[shape.prompt],
            "side": shape.side,
            "tokens": shape.tokens,
            "repeated": shape.repeated * 100,
        }
        for shape in shapes
        if shape.prompt in kept
    ]
    base = (
        _chart(rows)
        .mark_point(size=42, strokeWidth=1.6)
        .encode(
            y=alt.Y("prompt:N", sort=list(kept.values()), title=None),
            color=alt.Color("side:N", scale=_SIDES, legend=alt.Legend(orient="top")),
            shape=alt.Shape("side:N", scale=_MARKS),
        )
        .properties(width=_NARROW, height=_ROW * len(kept))
    )
    length = base.encode(x=alt.X("tokens:Q", title="tokens in the answer"))
    of_grams = alt.X("repeated:Q", title="% of 4-grams that repeat", scale=alt.Scale(domain=[0, 100]))
    return [
        _svg(length, label="Length of every prompt's answers, before and after."),
        _svg(base.encode(x=of_grams), label="Repetition in every prompt's answers, before and after."),
    ]


def agreement_plot(agreements: Sequence[Agreement]) -> Markup:
    """A heat map of prompts and passes: where each answer first differs from its baseline."""
    if not agreements:
        return Markup()
    worst = sorted(agreements, key=lambda each: each.share)
    kept = _few(list(dict.fromkeys(each.prompt for each in worst)))
    rows = [
        {
            "prompt": kept[each.prompt],
            "pass": f"{each.pass_number}: {each.occasion}",
            "differs": 1 - each.share if each.first_difference is not None else 0,
            "said": "=" if each.first_difference is None else str(each.first_difference),
        }
        for each in agreements
        if each.prompt in kept
    ]
    columns = list(dict.fromkeys(str(row["pass"]) for row in rows))
    base = _chart(rows).encode(
        x=alt.X(
            "pass:N",
            sort=columns,
            title=None,
            axis=alt.Axis(orient="top", labelAngle=-40, domain=False, ticks=False, labelLimit=200),
        ),
        y=alt.Y("prompt:N", sort=list(kept.values()), title=None, axis=alt.Axis(domain=False, ticks=False)),
    )
    fields = base.mark_rect(color="var(--heat)", stroke="var(--card)", strokeWidth=2).encode(
        opacity=alt.Opacity("differs:Q", scale=alt.Scale(domain=[0, 1], range=[0.08, 0.75]), legend=None)
    )
    words = base.mark_text(color="var(--ink)", fontSize=11).encode(text="said:N")
    chart = alt.layer(fields, words).properties(
        width=len(columns) * _field_width(len(columns)), height=(_ROW + 3) * len(kept)
    )
    return _svg(chart, label="Where each answer first differs from its baseline, by prompt and pass.")


def _field_width(columns: int) -> int:
    """As wide as the picture has room for; where it has none, as what stands in a field needs."""
    return max(_FIELD_LEAST, min(_FIELD_MOST, (_WIDTH - 160) // columns))


def _few(prompts: Sequence[str]) -> dict[str, str]:
    """The prompts that fit into a plot, each with a label that is unlike all others."""
    labels: dict[str, str] = {}
    for number, prompt in enumerate(prompts[:_PROMPTS_SHOWN], start=1):
        label = shorten(one_line(prompt), limit=_LABEL)
        labels[prompt] = label if label not in labels.values() else f"{label} #{number}"
    return labels


def _chart(rows: Sequence[Mapping[str, object]]) -> alt.Chart:
    return alt.Chart(alt.InlineData(values=list(rows)))


# Inside a page an SVG needs no namespaces, which are addresses although nothing is fetched
# from them; and what reads it out reads its label, not its marks.
_OPENING = re.compile(r'<svg [^>]*?viewBox="0 0 (\S+) (\S+)"[^>]*>')
_SPOKEN = re.compile(r' (?:role|aria-[a-z]+)="[^"]*"')


def _svg(chart: alt.LayerChart | alt.FacetChart | alt.Chart, *, label: str) -> Markup:
    chart.config = _CONFIG
    drawn = _SPOKEN.sub("", vl_convert.vegalite_to_svg(chart.to_dict(validate=False)))
    opening = rf'<svg viewBox="0 0 \1 \2" width="\1" height="\2" role="img" aria-label="{escape(label)}">'
    # The drawing library escapes text on its own; markup is only what it drew.
    return Markup(_OPENING.sub(opening, drawn, count=1))  # noqa: S704

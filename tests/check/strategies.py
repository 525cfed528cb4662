"""Stories made by Hypothesis."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.check.stories import Story


@st.composite
def clean_stories(draw: st.DrawFn) -> Story:
    """Stories of healthy engines: some prompts, some cycles of either level, with or without a cache."""
    story = Story(prompts=draw(st.integers(1, 4)), prefix_caching=draw(st.booleans()))
    story.baseline().null(passes=draw(st.integers(1, 2)))
    for number in range(1, draw(st.integers(1, 3)) + 1):
        story.sleep(draw(st.sampled_from([1, 2]))).wake()
        story.probe(number)
    return story.finish()

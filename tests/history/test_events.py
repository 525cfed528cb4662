"""What events carry."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from pydantic import ValidationError

from harness.history.events import EVENT, Event
from harness.history.packed_logprobs import Logprobs
from tests.history.strategies import events, logprobs


@given(logprobs())
def test_logprobs_are_exact(table: Logprobs) -> None:
    """Packed arrays come back bit by bit, NaN and infinities included, with their shapes."""
    again = Logprobs.pack(chosen=table.chosen, top_ids=table.top_ids, top_values=table.top_values)
    assert again == table
    assert table.top_ids.shape == table.top_values.shape == (len(table.chosen), table.k)


def test_logprobs_have_their_values() -> None:
    """What was packed is what is read."""
    chosen = np.array([-0.5, -np.inf, np.nan], dtype=np.float32)
    top_ids = np.array([[7, 8], [9, -1], [2**31 - 1, 0]], dtype=np.int32)
    top_values = np.array([[-0.5, -1], [-2, -np.inf], [0, -3]], dtype=np.float32)
    table = Logprobs.pack(chosen=chosen, top_ids=top_ids, top_values=top_values)
    np.testing.assert_array_equal(table.chosen, chosen)
    np.testing.assert_array_equal(table.top_ids, top_ids)
    np.testing.assert_array_equal(table.top_values, top_values)
    assert table.k == 2


def test_arrays_that_do_not_fit_cannot_be_packed() -> None:
    """Every token has one row of candidates, every candidate one value."""
    one, two = np.zeros(1, dtype=np.float32), np.zeros((2, 3), dtype=np.float32)
    ids = np.zeros((2, 3), dtype=np.int32)
    with pytest.raises(ValueError, match="shapes do not fit"):
        Logprobs.pack(chosen=one, top_ids=ids, top_values=two)
    with pytest.raises(ValueError, match="shapes do not fit"):
        Logprobs.pack(chosen=np.zeros(2, dtype=np.float32), top_ids=ids, top_values=two[:, :2])


@pytest.mark.parametrize("field", ["top_ids_base64", "top_values_base64", "chosen_base64"])
def test_a_shortened_array_is_refused(field: str) -> None:
    """A stored table whose arrays no longer fit each other is not read."""
    table = Logprobs.pack(
        chosen=np.zeros(2, dtype=np.float32),
        top_ids=np.zeros((2, 3), dtype=np.int32),
        top_values=np.zeros((2, 3), dtype=np.float32),
    )
    stored = table.model_dump()
    stored[field] = stored[field][: 4 * (len(stored[field]) // 8)]
    with pytest.raises(ValidationError):
        Logprobs.model_validate(stored)


@given(events())
def test_the_kind_tells_the_events_apart(event: Event) -> None:
    """Every event is read back as its own kind."""
    assert type(EVENT.validate_json(event.model_dump_json())) is type(event)


@given(events())
def test_an_event_cannot_be_changed(event: Event) -> None:
    """What was recorded is not edited."""
    with pytest.raises(ValidationError):
        event.t = 1.0  # type: ignore[misc] # frozen, which is what is tested

"""Log-probabilities as a history keeps them: exact, compact and fast to read."""

from __future__ import annotations

import base64
from typing import Annotated, Self

import numpy as np
import numpy.typing as npt
from pydantic import ConfigDict, Field, PlainSerializer, model_validator

from harness.history.event_base import Frozen


def _as_base64(packed: bytes) -> str:
    return base64.b64encode(packed).decode("ascii")


_Packed = Annotated[bytes, Field(strict=True), PlainSerializer(_as_base64, when_used="json")]


class Logprobs(Frozen):
    """Log-probabilities of ``n`` generated tokens and of the ``k`` likeliest tokens beside each.

    Arrays are little-endian 32-bit values and travel as base64: exact, compact and fast to
    read.  Missing places hold id -1 and minus infinity.
    """

    model_config = ConfigDict(validate_by_name=True, serialize_by_alias=True, val_json_bytes="base64")

    k: int = Field(ge=0)
    chosen_bytes: _Packed = Field(alias="chosen_base64")
    top_ids_bytes: _Packed = Field(alias="top_ids_base64")
    top_values_bytes: _Packed = Field(alias="top_values_base64")

    @classmethod
    def pack(
        cls,
        *,
        chosen: npt.NDArray[np.float32],
        top_ids: npt.NDArray[np.int32],
        top_values: npt.NDArray[np.float32],
    ) -> Self:
        """Pack ``chosen`` [n], ``top_ids`` [n, k] and ``top_values`` [n, k]."""
        if top_ids.shape != top_values.shape or top_ids.shape[:-1] != chosen.shape:
            raise ValueError(f"shapes do not fit: {chosen.shape}, {top_ids.shape}, {top_values.shape}")
        return cls(
            k=top_ids.shape[1],
            chosen_bytes=chosen.astype("<f4").tobytes(),
            top_ids_bytes=top_ids.astype("<i4").tobytes(),
            top_values_bytes=top_values.astype("<f4").tobytes(),
        )

    @property
    def chosen(self) -> npt.NDArray[np.float32]:
        """Log-probability of every generated token, shape [n], natural logarithm."""
        return np.frombuffer(self.chosen_bytes, dtype="<f4")

    @property
    def top_ids(self) -> npt.NDArray[np.int32]:
        """Ids of the likeliest tokens at every position, shape [n, k], likeliest first."""
        return np.frombuffer(self.top_ids_bytes, dtype="<i4").reshape(len(self.chosen), self.k)

    @property
    def top_values(self) -> npt.NDArray[np.float32]:
        """Their log-probabilities, shape [n, k]."""
        return np.frombuffer(self.top_values_bytes, dtype="<f4").reshape(len(self.chosen), self.k)

    @model_validator(mode="after")
    def _shapes_fit(self) -> Self:
        rows, rest = divmod(len(self.chosen_bytes), 4)
        if rest:
            raise ValueError("the packed log-probabilities are not 32-bit values")
        for packed in (self.top_ids_bytes, self.top_values_bytes):
            if len(packed) != rows * self.k * 4:
                raise ValueError(f"packed top-k arrays do not hold {rows} x {self.k} values")
        return self

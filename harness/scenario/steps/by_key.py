"""Lets pydantic take a step for what its key says, instead of trying each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import reduce
from operator import or_
from typing import Annotated

from pydantic import Discriminator, GetCoreSchemaHandler, Tag
from pydantic_core import CoreSchema

from harness.scenario.steps.base import BaseStep


class ByKey:
    """Of steps that are one of several; stands in ``Annotated``.

    ``models`` gives them by the key that names each in YAML, once all of them are there.
    """

    def __init__(self, models: Callable[[], Mapping[str, type[BaseStep]]], *, otherwise: str) -> None:
        self._models = models
        self._otherwise = otherwise

    def __get_pydantic_core_schema__(self, _: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        models = self._models()

        def key_of(value: object) -> str | None:
            if isinstance(value, dict):
                return next((key for key in value if key in models), None)
            return value.key() if isinstance(value, BaseStep) else None

        tagged = [Annotated[model, Tag(key)] for key, model in models.items()]
        by_key = Discriminator(
            key_of,
            custom_error_type="unknown_step",
            custom_error_message=f"{self._otherwise} " + ", ".join(models),
        )
        return handler.generate_schema(Annotated[reduce(or_, tagged), by_key])

"""What every step is: a model of what YAML may say, and its facts, each said here and nowhere else."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from harness.scenario.engine_state import EngineState
from harness.vllm_api.versions import Feature

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=64)]


class Strict(BaseModel):
    """A part of a scenario: what it does not know is a mistake."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class NoOptions(Strict):
    """The step has no options: write ``{}``."""


class MayFail(Strict):
    """Options of a call that the engine may have to refuse."""

    must_fail: bool = Field(
        default=False, description="the engine must refuse the call; if it does not, that contradicts"
    )


class BaseStep(Strict):
    """One action of a script.  Its first field is the key that names it in YAML."""

    changes_engine: ClassVar[bool] = True
    """Whether answers may differ after it.  What follows is judged against the baseline, not noise."""
    asks: ClassVar[bool] = False
    """Whether it sends prompts and waits for their answers, so that the engine has to be awake."""
    takes_memory: ClassVar[bool] = True
    """Whether a healthy engine may hold more memory for good afterwards."""
    needs_async: ClassVar[bool] = False
    """Whether an ``AsyncLLM`` can do it and an ``LLM`` cannot, which is busy as long as requests run."""
    feature: ClassVar[Feature | None] = None
    """What it is that not every release has."""

    @classmethod
    def key(cls) -> str:
        """The key that names the step in YAML."""
        return next(iter(cls.model_fields))

    @property
    def features(self) -> frozenset[Feature]:
        """What it makes use of that not every release has; more than ``feature`` with some options."""
        return frozenset() if self.feature is None else frozenset({self.feature})

    @property
    def only_adapter(self) -> str | None:
        """The name of the one adapter whose answers it may change; None where it may change all."""
        return None

    @property
    def leaves_a_trace(self) -> bool:
        """Whether the engine is another one for good, also at the end of a whole script."""
        return False

    @property
    def must_fail(self) -> bool:
        """Whether the engine must refuse it."""
        options = getattr(self, self.key())
        return isinstance(options, MayFail) and options.must_fail

    def leaves(self, engine: EngineState) -> EngineState:
        """What the engine must be like afterwards."""
        return engine if self.must_fail else self.changed(engine)

    def changed(self, engine: EngineState) -> EngineState:
        """What the engine is like once the step has been carried out."""
        return engine

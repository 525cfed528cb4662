"""What every step is: a model of what YAML may say, and its facts, each said here and nowhere else."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from harness.scenario.engine_state import EngineState
from harness.vllm_api.versions import Feature

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=64)]


class Strict(BaseModel):
    """A part of a scenario: what it does not know is a mistake."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Moment(Strict):
    """When a call of `concurrently` begins, if not with the others."""

    after: float | None = Field(
        default=None,
        gt=0,
        le=600,
        description="so many seconds after the others, or after the moment that is named beside it",
    )
    after_first_token: Name | None = Field(
        default=None, description="once each of these requests has its first token, by their name"
    )
    while_pending: Name | None = Field(
        default=None,
        description="as soon as an earlier call of the same `concurrently`, named by its key, has been sent",
    )

    @model_validator(mode="after")
    def _is_one(self) -> Moment:
        named = [name for name in ("after_first_token", "while_pending") if getattr(self, name) is not None]
        if len(named) > 1 or (not named and self.after is None):
            raise ValueError("say one of `after_first_token` and `while_pending`, or `after`, or both")
        return self


class Abandon(Strict):
    """A client that gives its call up, so that nobody hears what became of it."""

    after: float = Field(gt=0, le=600, description="seconds after which the client gives the call up")
    within: float = Field(
        default=10.0,
        gt=0,
        le=600,
        description="seconds in which it may still take effect: so long is waited for that",
    )


class Overlapping(Strict):
    """Options of what may stand in `concurrently`."""

    begins: Moment | None = Field(
        default=None, description="inside `concurrently`: when it begins; without it at once, with the others"
    )


class CallOptions(Overlapping):
    """Options that every call has."""

    must_fail: bool = Field(
        default=False,
        description="the engine must refuse the call and stay as it is; a status of 200 contradicts",
    )
    abandon: Abandon | None = Field(
        default=None,
        description="the client gives the call up, which then has taken effect, whole, or not at all",
    )

    @model_validator(mode="after")
    def _a_refusal_is_waited_for(self) -> CallOptions:
        if self.must_fail and self.abandon is not None:
            raise ValueError("nobody hears whether a call that is given up is refused: say one of the two")
        return self


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
        options = self.call_options
        return options is not None and options.must_fail

    @property
    def call_options(self) -> CallOptions | None:
        """What every call can be told; None where the step is none."""
        options = getattr(self, self.key())
        return options if isinstance(options, CallOptions) else None

    @property
    def begins(self) -> Moment | None:
        """When it begins, inside `concurrently`."""
        options = getattr(self, self.key())
        return options.begins if isinstance(options, Overlapping) else None

    @property
    def abandoned(self) -> Abandon | None:
        """When its client gives it up; None where it waits."""
        options = self.call_options
        return options.abandon if options else None

    def leaves(self, engine: EngineState) -> EngineState:
        """What the engine must be like afterwards."""
        return self.refused(engine) if self.must_fail else self.changed(engine)

    def outcomes(self, engine: EngineState) -> tuple[EngineState, ...]:
        """What the engine may be like afterwards, where that is more than one thing."""
        after = self.leaves(engine)
        return (after,) if self.abandoned is None or after == engine else (after, engine)

    def may_be_refused(self, engine: EngineState) -> bool:  # noqa: ARG002 - most calls are always possible
        """Whether an engine that is like this, and at rest, may refuse the call."""
        return False

    def refused(self, engine: EngineState) -> EngineState:
        """What the engine is like once it has refused the step: as before."""
        return engine

    def changed(self, engine: EngineState) -> EngineState:
        """What the engine is like once the step has been carried out."""
        return engine

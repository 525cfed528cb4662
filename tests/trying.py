"""How many examples Hypothesis tries: a quarter in the fast tests of what it tries in the gate.

``--hypothesis-profile=thorough`` tries all.  Which are tried is the same in every run.
"""

from __future__ import annotations

import math

from hypothesis import settings

_THOROUGH = settings(derandomize=True, deadline=None, max_examples=100)
_FAST = settings(_THOROUGH, max_examples=25)


def load_profiles() -> None:
    """Let tests be fast unless the command line asks for another profile."""
    settings.register_profile("thorough", _THOROUGH)
    settings.register_profile("fast", _FAST)
    settings.load_profile("fast")


def tries(number: int) -> settings:
    """For a property whose examples cost more than most: try so many where others try a hundred."""
    share = settings().max_examples / _THOROUGH.max_examples
    return settings(max_examples=math.ceil(number * share))

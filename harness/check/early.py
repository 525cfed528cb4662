"""Whether a cell's verdict is certain, or its noise known, before its script has come to its end.

Why looking early costs no error rate: the only recordings that are decided are *quiet* ones, where
nothing differed before the transition beyond the order of float32 additions.  There a difference is a proof
by itself; no statistic is compared with a threshold, so there is no alpha that a second look could
spend.  A proof stays in the recording whatever is recorded after it, and corrupt is the worst verdict: going
on could not change it.  Where noise has to be told from damage, nothing is decided early.

The driver leaves out further cycles of a repetition only, so that everything the script does has been
done once and every control question has been asked.  What a later cycle alone would show (memory that leaks,
steps that become slower) is not looked for in an engine whose answers are known to be wrong.
"""

from __future__ import annotations

from harness.check.calibration import Calibration
from harness.check.case import Case
from harness.check.evidence import Evidence
from harness.check.result import Cause, Verdict
from harness.check.verdict import judge
from harness.history.recording import Recording


def noise_is_known(recording: Recording) -> bool:
    """Whether ``recording`` holds as many null answers as their differences call for."""
    return Calibration(Evidence(recording)).knows_noise


def decided(recording: Recording) -> bool:
    """Whether ``recording``, as far as it goes, proves corruption and names its cause."""
    result = judge(recording)
    if result.verdict is not Verdict.CORRUPT or result.cause in {None, Cause.UNKNOWN}:
        return False
    calibration = Case(Evidence(recording)).calibration
    return calibration is not None and calibration.quiet

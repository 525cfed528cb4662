"""From a recording to a verdict: pure functions, no network, no clock, no disk."""

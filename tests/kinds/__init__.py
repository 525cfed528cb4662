"""Tests of the kinds of requests: what each asks, and what its oracle says."""

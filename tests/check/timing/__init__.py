"""Tests of harness.check.timing."""

"""Tests of harness.check.diagnosis."""

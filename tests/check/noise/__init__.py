"""Tests of harness.check.noise."""

"""Tests of harness.check.checkers."""

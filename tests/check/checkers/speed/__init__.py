"""Tests of harness.check.checkers.speed."""

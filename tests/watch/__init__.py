"""Tests of harness/watch."""

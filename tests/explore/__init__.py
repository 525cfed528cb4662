"""Tests of harness/explore."""

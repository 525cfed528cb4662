"""Tests of the faults to plant."""

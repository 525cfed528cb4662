"""Tests of harness/drive, against the fake server run as a real process."""

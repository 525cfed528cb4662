"""Tests of what `sleepwake init` writes."""

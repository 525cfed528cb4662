"""Tests of what runs inside vLLM's processes."""

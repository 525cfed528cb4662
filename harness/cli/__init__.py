"""The commands.  Thin: each turns its options into a call and its result into an exit code."""

from harness.cli.application import call, main

__all__ = ["call", "main"]

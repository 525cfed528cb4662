"""A directory that can be attached to a vLLM issue: what was seen, and how others see it again.

Everything in it has been through :class:`Private`: no secret, no host name, no home folder.
Prompts and answers are written in full, as they are the evidence.
"""

from harness.report.bug_report.directory import FOLDER, BugReport, choose_cell, write_bug_report
from harness.report.bug_report.private import Private

__all__ = ["FOLDER", "BugReport", "Private", "choose_cell", "write_bug_report"]

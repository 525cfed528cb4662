"""What was found, told to people and to machines: pure renderings of one :class:`Report`.

``assemble`` gathers a judged run with its recordings; ``write_report`` writes
``verdict.json``, ``junit.xml``, ``summary.md`` and ``report.html`` beside the histories;
``show_report`` prints the same to a terminal or a log.  The answers of a model are
hostile input everywhere: see :mod:`harness.report.text`.
"""

from harness.report.model import CellReport, Report, assemble, reproduce_command
from harness.report.terminal import show_report
from harness.report.writer import WrittenReport, write_report

__all__ = [
    "CellReport",
    "Report",
    "WrittenReport",
    "assemble",
    "reproduce_command",
    "show_report",
    "write_report",
]

"""The application: every command by its name, and how a call of one ends."""

from __future__ import annotations

import os
import sys
import traceback

from cyclopts import App, CycloptsError, Parameter
from rich.console import Console
from rich.text import Text

from harness import __version__
from harness.cli import machine, showing, starting, stored_runs, watching, with_servers
from harness.cli.help import told
from harness.cli.option_sources import check_variables, note_sources, variables_taken
from harness.cli.options import OptionsOfRun
from harness.cli.streams import endure
from harness.errors import ExitCode, SleepwakeError

app = App(
    name="sleepwake",
    help="Is the vLLM engine that wakes up still the one that fell asleep?",
    version=__version__,
    help_format="plaintext",
    config=note_sources,
    default_parameter=Parameter(negative_iterable=(), show_default=lambda value: value or None),
)
app.register_install_completion_command(
    name="--install-completion", help="Let bash, zsh or fish complete commands and options."
)
for command in (
    starting.init,
    *(with_servers.run, with_servers.bisect, with_servers.fuzz, with_servers.selftest, watching.watch),
    *(
        stored_runs.check,
        stored_runs.report,
        showing.show,
        stored_runs.compare,
        stored_runs.pin,
        stored_runs.merge,
        stored_runs.bug_report,
        stored_runs.history,
    ),
    *(machine.clean, machine.doctor, machine.schema),
):
    told(command)
    app.command(command)
for described in (OptionsOfRun, machine.build_image):
    told(described)
image = App(name="image", help="Build the CPU images of the Docker runtime.")
image.command(machine.build_image, name="build")
app.command(image)


def main() -> None:
    """Run the ``sleepwake`` command."""
    out = endure()
    code = call(sys.argv[1:])
    sys.stdout.flush()
    if out.complaint:
        sys.stderr.write(f"sleepwake: {out.complaint}\n")
    # A verdict stays what it is; but nobody may take output that is not whole for a success.
    sys.exit(ExitCode.INFRASTRUCTURE if out.complaint and code == ExitCode.CLEAN else code)


def call(arguments: list[str]) -> int:
    """Run one command and return its exit code; errors of ours are told in words on standard error."""
    errors = Console(stderr=True, highlight=False)
    try:
        check_variables(os.environ)
        # A console of this call: the one an application keeps for itself stays as wide as at its first use.
        code = app(
            arguments,
            exit_on_error=False,
            console=Console(),
            error_console=errors,
            result_action="return_value",
        )
    except CycloptsError:
        return ExitCode.USAGE
    except SleepwakeError as error:
        errors.print(Text(f"sleepwake: {error}"), soft_wrap=True)
        if taken := variables_taken():
            errors.print(Text(f"  (options from the environment: {', '.join(taken)})"), soft_wrap=True)
        return error.exit_code
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except Exception:  # noqa: BLE001 - Python's own exit code for it, 1, would read as a verdict
        traceback.print_exc()
        errors.print(
            Text("sleepwake: the above is a defect of sleepwake itself, not a verdict"), soft_wrap=True
        )
        return ExitCode.DEFECT
    return int(code or 0)

"""``python -m sleepwake``: the command, where no script of that name is on the path."""

from __future__ import annotations

from sleepwake._own import use_own_harness


def main() -> None:
    """Run the ``sleepwake`` command."""
    use_own_harness()
    from harness.process_list import hide_secrets

    hide_secrets()
    from harness.cli import main as run_command

    run_command()


if __name__ == "__main__":
    main()

"""How far what was timed can be trusted: when the harness was stopped, and how busy the machine was."""

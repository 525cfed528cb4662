"""Guards an engine that another process holds: has it asked, records what comes back, and judges it."""

"""The append-only record of a cell: its events, how they are stored, and how they are read."""

"""Why the verdict is what it is: the cause, its witness, or what keeps the recording from telling."""

"""A passive guard: judges every wake-up of a server that somebody else puts to sleep and wakes.

It asks canary prompts, and nothing else of the engine: it never puts it to sleep, wakes it, or resets, loads
or pauses anything.  A baseline of the canaries is a history of its own; each check is a branch of that
history, with a cell folder that ``sleepwake check`` judges again.
"""

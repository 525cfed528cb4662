"""One contract for the real engine and the fake: what the harness relies on, asked of both.

The fake half runs always; the real half carries the mark ``engine``.  Where the two differ the
fake is wrong.
"""

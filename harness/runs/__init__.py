"""Runs on disk: ``run.json`` is kept true, runs are found, judged, listed, merged and taken up again."""

"""The report as a person meets it: in a browser, opened from the disk."""

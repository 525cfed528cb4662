"""The search for the release at which a verdict changes."""

"""Guarding an engine that another process holds."""

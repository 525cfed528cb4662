"""Measurements of the project itself: how fast it judges, and how it compares with other comparators."""

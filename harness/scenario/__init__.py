"""Scenarios: what they may say, how their files are read, and the cells they expand into."""

"""Tests of the renderings: what was found, told to people and to machines."""

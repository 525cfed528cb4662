"""Tests of how servers come to be and are gone again."""

"""The search for failing sequences of lifecycle calls."""

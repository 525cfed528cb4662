"""Carries out a cell's script against one server and writes its history."""

"""Tests of harness/drive/guest: a server that is not ours comes to no harm."""

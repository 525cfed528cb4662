"""What nobody would send on purpose, in numbers: each module is run alone, a slice of it with the tests."""

"""The proof that planted faults are seen."""

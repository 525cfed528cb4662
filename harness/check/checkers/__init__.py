"""One module for each kind of thing that can go wrong: from the evidence to findings."""

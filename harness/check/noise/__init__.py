"""How much answers differ when nothing happened, and what that noise does not explain."""

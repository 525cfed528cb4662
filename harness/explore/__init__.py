"""What searches over runs."""

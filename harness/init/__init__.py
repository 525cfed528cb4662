"""What ``sleepwake init`` writes: a scenario, a CI job and a pytest setting for what a user has."""

"""Running experiments: all of Ray."""

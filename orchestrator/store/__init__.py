"""What stays on disk: the home folder, one folder an experiment with its journal, and the teachers."""

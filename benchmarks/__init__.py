"""Speed and memory against the alternatives that a user would pick, each pair in one run."""

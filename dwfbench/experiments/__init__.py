"""What is to be trained, and what comes of it: plan, search, run, tune, verify, estimate."""

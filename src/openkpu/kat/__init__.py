"""The known-answer test: a script and data with which a user proves that a board computes what the simulator does."""

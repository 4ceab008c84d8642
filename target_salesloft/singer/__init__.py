"""Singer input and output: messages, BATCH files, STATE, signals."""

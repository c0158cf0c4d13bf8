"""What can be done to tables without user code around it: `contract` says what an operator is."""

"""Results of finished steps, kept where the user says, so that a workflow can be resumed."""

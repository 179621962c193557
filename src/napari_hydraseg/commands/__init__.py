"""The verbs of the command line, one module per kind, and what they share."""

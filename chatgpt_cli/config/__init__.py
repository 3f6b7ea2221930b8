"""The configuration: its schema, its files, the places of a run."""

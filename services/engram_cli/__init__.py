"""The engram command: everything a person does."""

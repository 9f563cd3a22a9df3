"""The commands: how each is parsed, and how its result looks."""

"""The commands: parse, load, call the core, show the result."""

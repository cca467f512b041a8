"""The command line: all commands, with their tables, messages and progress."""

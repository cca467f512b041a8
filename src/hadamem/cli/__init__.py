"""The command line: every command, its tables and its progress. Only here are messages printed."""

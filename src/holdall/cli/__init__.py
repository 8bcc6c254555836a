"""The command line: one file per command. Only here and in the server is the environment read."""

"""The command line: `kerasbalance --help`."""

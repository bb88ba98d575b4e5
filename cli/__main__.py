"""`python -m kerasbalance.cli`."""

from kerasbalance.cli.main import main

main(prog_name="kerasbalance")

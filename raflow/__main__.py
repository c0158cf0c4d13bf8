"""`python -m raflow` is the `raflow` command."""

from raflow.cli import main

main()

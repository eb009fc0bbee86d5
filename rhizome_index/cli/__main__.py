"""`python -m rhizome_index.cli` is `rhizome`."""

from rhizome_index.cli.main import main

main()

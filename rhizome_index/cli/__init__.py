"""The command line `rhizome`: thin commands over the library."""

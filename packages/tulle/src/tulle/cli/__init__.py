"""The command line. Every command's module is imported only when the command runs."""

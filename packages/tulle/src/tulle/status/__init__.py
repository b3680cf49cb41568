"""What a mesh looks like from outside: who calls whom, how well, how fast."""

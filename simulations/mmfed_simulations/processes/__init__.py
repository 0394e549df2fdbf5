"""A federation of real processes on this machine: the programs that people use, over TLS on loopback."""

"""What the command lines of server, site and simulation share: running a command, printing its results."""

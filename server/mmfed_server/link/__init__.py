"""The server's side of the way to the sites: one TLS port in front of Flower's state, and a Grid behind it.

Nothing outside this package touches Flower's server; nothing in it knows what a round is.
"""

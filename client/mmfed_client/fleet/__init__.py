"""The site's side of the way to the server: Flower's fleet connection without its process control.

Nothing outside this package touches Flower's transport; nothing in it decides what may be sent.
"""

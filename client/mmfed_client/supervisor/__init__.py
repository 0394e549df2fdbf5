"""The supervisor of a site's node: starts it, for ever again, and ends it when nothing allows it."""

"""Sites that leave a study: what they contributed, and runs that are trained again without them."""

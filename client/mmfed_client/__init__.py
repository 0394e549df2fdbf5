"""A site: its cohort, its training, and everything that stays on its premises."""

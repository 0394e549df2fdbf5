"""Tables of ``docs/results`` that rest on public cohorts: what a row is, how it is made and written."""

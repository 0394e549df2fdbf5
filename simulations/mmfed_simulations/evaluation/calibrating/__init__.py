"""How far predicted survival can be believed: calibration, temperatures, lower bounds on survival time."""

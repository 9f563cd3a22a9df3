"""Ray as a place: starting or joining it, what it has, and jobs on it."""

"""Ray clusters: starting or joining one, its capacity, and jobs on it."""

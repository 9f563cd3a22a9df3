"""Networks from log-mel windows to one score per instrument."""

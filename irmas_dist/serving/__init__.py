"""Models that listen: the application behind ``irmas serve``, on Ray Serve."""

"""The application behind ``irmas serve``, on Ray Serve."""

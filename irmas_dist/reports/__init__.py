"""Pages, charts and cards that people look at afterwards."""

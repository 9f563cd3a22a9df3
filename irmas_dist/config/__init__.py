"""The recipe as code: one module per top-level key, light to import."""

"""IRMAS and trees in its shape: facts, download, the manifest, groups and splits."""

"""Audio files and what is known of them: reading IRMAS trees, rendering stand-ins, splits."""

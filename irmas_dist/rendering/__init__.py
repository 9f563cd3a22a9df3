"""Stand-in corpora, rendered from General MIDI soundfonts."""

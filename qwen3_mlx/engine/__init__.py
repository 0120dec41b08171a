"""Token ids in, token ids out; this room knows no text."""

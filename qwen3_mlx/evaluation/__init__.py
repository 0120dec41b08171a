"""How well a model does on problems that it has never seen, asked through the public library."""

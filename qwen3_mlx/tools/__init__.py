"""Functions that a model may call: their schemas, how they are run, and the loop around them."""

"""The way to a model that is loaded already: the client's half of the warm agent.

`link` and what it stands on import neither mlx nor numpy nor tokenizers nor dataclasses, so
that a question costs little more than starting Python. `codec` makes events of what comes,
`model` makes a model of the agent.
"""

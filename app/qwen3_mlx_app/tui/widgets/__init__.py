"""The parts of the chat screen: each draws one thing from the state it is given."""

"""The warm agent: a model kept in memory behind a socket, for `ask` and the library."""

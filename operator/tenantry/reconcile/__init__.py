"""One module a kind: gather what is, decide what follows (pure), apply it, tell it in the status."""

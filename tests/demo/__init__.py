"""`make demo`: a whole installation on this machine, the quick start applied to it, and a look at what came of it."""

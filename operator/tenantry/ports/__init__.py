"""The protocols between the reconcilers and the world, one module a neighbour; each is imported from where it is."""

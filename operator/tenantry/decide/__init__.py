"""Pure decisions: from plain values to what is to be done, or to a Halt that says why nothing can be."""

"""The kinds, names, labels, conditions and reasons: what users and objects see. Imports nothing of the other rooms."""

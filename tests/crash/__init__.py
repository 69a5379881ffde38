"""SIGKILL for the operator before and after every single write; the end is compared with an undisturbed run's."""

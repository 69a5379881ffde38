"""The operator's image, tried for real: read-only, as nobody special, against real API servers and PostgreSQL."""

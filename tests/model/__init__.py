"""A model of what tenants should be like, beside the real servers: random lives of tenants, broken and meddled with."""

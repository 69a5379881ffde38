"""Tenantry: a Kubernetes operator that gives each customer an isolated environment."""

__version__ = "0.1.0"

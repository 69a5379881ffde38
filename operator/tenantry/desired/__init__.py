"""Pure builders: from a Blueprint to the manifests that a tenant has on its target; one module a concern."""

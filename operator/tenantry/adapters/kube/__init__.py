"""Kubernetes: clients, strict kubeconfigs, addresses, the cache of live objects and the watches that fill it."""

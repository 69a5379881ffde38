"""What runs the reconcilers: settings, queue, lease, metrics, handlers; the only room that knows kopf."""

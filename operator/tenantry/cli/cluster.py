"""`tenantry cluster`: commands about target clusters."""

from __future__ import annotations

import click


@click.group()
def cluster() -> None:
    """Target clusters."""

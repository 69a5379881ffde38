"""`tenantry crds`: the CustomResourceDefinitions that belong to this version."""

from __future__ import annotations

from pathlib import Path

import click

from tenantry.api.crd import crd
from tenantry.api.kinds import ALL_KINDS
from tenantry.cli.manifests import as_yaml


@click.command()
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write one file a kind into this folder instead of printing them.",
)
def crds(output: Path | None) -> None:
    """Print the kinds, for `tenantry crds | kubectl apply --server-side -f -`."""
    bodies = [crd(kind) for kind in ALL_KINDS]
    if output is None:
        click.echo(as_yaml(bodies), nl=False)
        return
    try:
        output.mkdir(parents=True, exist_ok=True)
        for body in bodies:
            path = output / f"{body['spec']['group']}_{body['spec']['names']['plural']}.yaml"
            path.write_text(as_yaml([body]), encoding="utf-8")
            click.echo(f"written: {path}", err=True)
    except OSError as error:
        raise click.ClickException(f"{error.filename}: {error.strerror}") from error

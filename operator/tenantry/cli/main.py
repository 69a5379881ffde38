"""The `tenantry` command: its groups and how it tells errors."""

from __future__ import annotations

import click

from tenantry import __version__
from tenantry.cli.backups import backups
from tenantry.cli.cluster import cluster
from tenantry.cli.crds import crds
from tenantry.cli.deletions import deletions
from tenantry.cli.install_check import install_check
from tenantry.cli.operator import operator
from tenantry.cli.preview import preview
from tenantry.cli.support_bundle import support_bundle
from tenantry.cli.undelete import undelete


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="tenantry")
def main() -> None:
    """Isolated environments for each of your customers, on Kubernetes."""


main.add_command(operator)
main.add_command(cluster)
main.add_command(crds)
main.add_command(undelete)
main.add_command(deletions)
main.add_command(backups)
main.add_command(preview)
main.add_command(install_check)
main.add_command(support_bundle)

"""`python -m tenantry`: the same as the command `tenantry`."""

from tenantry.cli.main import main

main(prog_name="tenantry")

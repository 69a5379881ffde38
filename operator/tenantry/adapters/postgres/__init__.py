"""PostgreSQL behind `ports.DatabaseAdmin`: one database and three roles a tenant on a shared server.

A step of `PostgresAdmin` (admin.py) reads one `Snapshot` (snapshot.py), has the pure `rules` say whose it is and what
is wrong, and executes the `statements` that put it right. claims.py and home.py are about the operator's own database,
inside.py about a tenant's from within, dropping.py about its end.
"""

from tenantry.adapters.postgres.admin import PostgresAdmin
from tenantry.adapters.postgres.home import public_connect_fix
from tenantry.adapters.postgres.params import Limits, ServerParams

__all__ = ["Limits", "PostgresAdmin", "ServerParams", "public_connect_fix"]

"""PostgreSQL behind `ports.DatabaseAdmin`: one database and three roles a tenant on a shared server.

A step of `PostgresAdmin` (admin.py, steps.py) reads one `Snapshot` (snapshot.py), has the pure `rules` say whose it is
and what is wrong, and executes the `statements` that put it right. claims.py and home.py are about the operator's own
database, inside.py about a tenant's from within, sessions.py and lockout.py about keeping a tenant out against its
will; by means of these parking.py, logins.py and dropping.py do what a deletion, a rotation and a purge do.
"""

from tenantry.adapters.postgres.admin import PostgresAdmin
from tenantry.adapters.postgres.home import public_connect_fix
from tenantry.adapters.postgres.params import Limits, ServerParams

__all__ = ["Limits", "PostgresAdmin", "ServerParams", "public_connect_fix"]

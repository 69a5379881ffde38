"""A lab for restores on trial: tenants whose backups are slow or large, and a look at what a trial leaves."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
from tests.controlplane.postgres import PostgresServer
from tests.integration.backing import Kept
from tests.integration.tenants import condition, plain
from tests.scene.installation import apply
from tests.scene.lab import (
    Lab,
    wait_until,
)

from tenantry.desired.manifest import encode

Json = dict[str, Any]
WORKSPACE = "shop"
PATIENCE = 120.0
"""Seconds; what is waited for takes some of them on a quiet machine."""
NEVER_OPEN = {"schedule": "0 0 29 2 *", "duration": "1m"}
SLOW = (
    "CREATE FUNCTION slow(i int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS "
    "$$ BEGIN PERFORM pg_sleep(1.5); RETURN i; END $$",
    "CREATE TABLE slow_ones AS SELECT generate_series(1, 8) i",
    "CREATE INDEX ON slow_ones (public.slow(i))",
)
"""Its index takes twelve seconds to be made: a trial of it can be caught in the middle."""
WIDE = ("CREATE TABLE wide AS SELECT repeat(md5(i::text), 8) AS t FROM generate_series(1, 150000) i",)
NOSY = (
    "CREATE FUNCTION tells(i int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN "
    "IF current_database() ~ '^tenantry_verify_' THEN "
    "RAISE EXCEPTION 'it is % at %', current_database(), current_setting('port'); END IF; RETURN i; END $$",
    "CREATE TABLE nosy_ones AS SELECT generate_series(1, 8) i",
    "CREATE INDEX ON nosy_ones (public.tells(i))",
)
"""Code that tells, where it is restored on trial, what it has found out there."""
LARGEST_FILE = 24 * 1024 * 1024
"""Bytes: more than a segment of the server's log, and less than the wide table."""
TENANTS: dict[str, tuple[str, ...]] = {"acme": (), "slow": SLOW, "wide": WIDE, "nosy": NOSY}


class Scene:
    """A lab with tenants, of whose databases one is slow to be restored and one is large, and a store in a folder."""

    def __init__(self, lab: Lab, spare: PostgresServer, kept: Kept, folder: Path) -> None:
        self.lab = lab
        self.spare = spare
        self.kept = kept
        self.folder = folder
        self._numbers = itertools.count()

    # --- acting ---------------------------------------------------------------------------------------------------
    def begin(self, tenant: str = "acme", **spec: Any) -> str:
        """Make one more TenantBackup that is to be restored on trial; its name."""
        name = f"{tenant}-{next(self._numbers)}"
        wanted = {"source": {"tenant": {"name": tenant}}, "store": self.kept.name, "verify": "Restore", **spec}
        body = {
            "apiVersion": "tenantry.io/v1alpha1",
            "kind": "TenantBackup",
            "metadata": {"name": name, "namespace": WORKSPACE},
            "spec": wanted,
        }
        apply(self.lab.management.access, body)
        return name

    def patch(self, kind: str, name: str, spec: Json) -> None:
        """Change a platform object."""
        patch = json.dumps({"spec": spec})
        self.lab.management.access.kubectl("patch", kind, name, "--type=merge", "-p", patch)

    def verification(self, **wanted: Any) -> None:
        """What the store says of verification: what is not named is as it was made."""
        usual: Json = {"interval": "0s", "server": None, "window": None}
        self.patch("bks", self.kept.name, {"verification": {**usual, **wanted}})

    def capacity(self, storage: str | None, server: str = "shared-fra") -> None:
        """Of a server; whoever changes it has what was not possible there tried again at once."""
        self.patch("dbs", server, {"capacity": {"storage": storage} if storage else None})

    def tamper(self, path: str, **changes: Any) -> None:
        """Change what a manifest says, and sign it as the operator does."""
        manifest = replace(asyncio.run(self.kept.manifest(path)), **changes)
        asyncio.run(self.kept.store.put(f"{path}/manifest.json", encode(manifest, self.kept.signing_key)))

    # --- looking --------------------------------------------------------------------------------------------------
    def read(self, name: str) -> Json:
        """A TenantBackup."""
        body: Json = self.lab.management.access.get("tnb", name, "-n", WORKSPACE)
        return body

    def tenant(self, name: str = "acme") -> Json:
        """A Tenant."""
        body: Json = self.lab.management.access.get("tn", name, "-n", WORKSPACE)
        return body

    def wait(self, check: Callable[[], object], what: str, seconds: float = PATIENCE) -> None:
        """Until something holds; with what is known where it does not."""

        def known() -> str:
            backups = self.lab.management.access.get("tnb", "-n", WORKSPACE)["items"]
            told = {body["metadata"]["name"]: condition(body).get("message") for body in backups}
            return f"{what}\n{json.dumps(told, indent=1)}\n{self.lab.operator.log_text[-4000:]}"

        wait_until(lambda: bool(check()), seconds, known)

    def tried(self, name: str, seconds: float = PATIENCE) -> Json:
        """A TenantBackup's verification, once it was restored on trial."""

        def told() -> Json:
            found: Json = self.read(name).get("status", {}).get("verification") or {}
            return found if found.get("method") == "Restore" else {}

        self.wait(told, f"{name} was restored on trial", seconds)
        return told()

    def says(self, name: str, what: str) -> None:
        """A TenantBackup, once its Ready says something, while it is as good as one that is only read back."""

        def told() -> bool:
            body = self.read(name)
            return what in condition(body).get("message", "") and body["status"]["phase"] == "Completed"

        self.wait(told, f"{name} says {what!r}")
        assert self.read(name)["status"]["verification"]["method"] == "Read"
        assert condition(self.read(name))["status"] == "True"

    def scratch(self, server: PostgresServer | None = None) -> set[str]:
        """All databases, roles and claims of trials that are on a server."""
        access = (server or self.lab.postgres).access
        with psycopg.connect(access.superuser_dsn()) as session:
            rows = session.execute(
                "SELECT datname FROM pg_database WHERE datname ~ '^tenantry_verify_' UNION ALL "
                "SELECT rolname FROM pg_roles WHERE rolname ~ '^tenantry_verify_'"
            ).fetchall()
        with psycopg.connect(access.superuser_dsn("tenantry")) as session:
            rows += session.execute("SELECT record FROM claims WHERE record LIKE 'verification/%'").fetchall()
        return {row[0] for row in rows}

    def scratch_databases(self) -> list[str]:
        """Those that are open, on the tenants' server."""
        with psycopg.connect(self.lab.postgres.access.superuser_dsn()) as session:
            rows = session.execute(
                "SELECT datname FROM pg_database WHERE datname ~ '^tenantry_verify_' AND datallowconn"
            ).fetchall()
        return [row[0] for row in rows]

    def is_being_filled(self) -> int:
        """The process that is just making the slow index in a scratch database; 0 if none is."""
        with psycopg.connect(self.lab.postgres.access.superuser_dsn()) as session:
            row = session.execute(
                "SELECT pid FROM pg_stat_activity WHERE datname ~ '^tenantry_verify_' AND query ~ 'CREATE INDEX'"
            ).fetchone()
        return int(row[0]) if row is not None else 0

    def says_nothing_of(self, name: str, server: str) -> None:
        """A trial that came to nothing, and has changed nothing about its backup."""
        ended = f"trial of {name} on {server}: "
        self.wait(lambda: ended in self.lab.operator.log_text, "the trial has ended")
        assert f"{ended}not_possible" in self.lab.operator.log_text
        assert self.read(name)["status"]["verification"]["method"] == "Read"
        assert condition(self.read(name))["status"] == "True"

    def uri(self, tenant: str) -> str:
        """A tenant's own way in."""
        namespace = self.tenant(tenant)["status"]["namespace"]
        return plain(self.lab.target.access.get("secret", "tenant-database", "-n", namespace))["uri"]

    def metric(self, name: str) -> float:
        """A series as the operator exposes it now."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.lab.operator.port}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
        return float(found[1]) if found else 0.0

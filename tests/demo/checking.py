"""`--check`: the assertions that have to do something first, and the table of all of them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import psutil
from rich.table import Table
from rich.text import Text
from tests.controlplane.access import ClusterAccess, KubectlError
from tests.demo.databases import look_at_databases
from tests.demo.findings import Findings, gather, name_of
from tests.demo.looking import OTHER, Line, try_lines
from tests.demo.proofs import Proofs
from tests.demo.quickstart import PLATFORM_OBJECTS, TenantName
from tests.demo.screen import Screen
from tests.demo.stage import Stage
from tests.demo.verdicts import (
    Verdict,
    gone_problems,
    judge_proofs,
    judge_tenants,
    leak_problems,
    ready_problems,
    unchanged_problems,
    verdict,
)

from tenantry.api.names import LABEL_CLAIM, SYSTEM_NAMESPACE

DELETE_SECONDS: Final = 60.0
RECORD_SECONDS: Final = 60.0
FORBIDDEN: Final = {
    "management": ("* * -A", "create tenants.tenantry.io -A", "create clusterrolebindings"),
    "target": ("* * -A", "get secrets -n default", "create clusterrolebindings"),
}
API_KEY: Final = "an-example-and-no-secret"
"""The value of acme-env in 2-workspaces.yaml: no secret of anybody, but to be kept like one."""


def check(
    screen: Screen,
    stage: Stage,
    found: Mapping[TenantName, Findings],
    proofs: Mapping[TenantName, Proofs],
    copied: Iterable[Line],
) -> list[Verdict]:
    """All assertions, in the order of what happens; the last ones delete a tenant."""
    verdicts = [_identity(stage), _platform(stage.management), *judge_tenants(found), *judge_proofs(proofs)]
    with screen.step("the lines to copy tried"):
        verdicts.append(verdict("the lines to copy work as they are", try_lines(copied)))
    with screen.step(f"`kubectl delete tenant {OTHER.name} -n {OTHER.workspace}`"):
        verdicts += _deletion(stage, found)
    verdicts.append(_secrecy(stage, found))
    running = [] if stage.operator.running else ["it has ended"]
    return [*verdicts, verdict("the operator is the same process from first to last", running)]


def show_verdicts(screen: Screen, verdicts: Iterable[Verdict]) -> None:
    """The table of PASS and FAIL; what speaks against an assertion stands below its name."""
    table = Table("", "Assertion", pad_edge=False)
    for one in verdicts:
        result = Text("PASS", "green") if one.passed else Text("FAIL", "bold red")
        table.add_row(result, Text("\n".join([one.name, *(f"  {problem}" for problem in one.problems)])))
    screen.show(table)


def nothing_left(pids: Iterable[int], paths: Iterable[Path]) -> Verdict:
    """After the end: no process and no file of the demo is there any more."""
    problems = [f"process {pid} is still there" for pid in pids if psutil.pid_exists(pid)]
    problems += [f"{path} is still there" for path in paths if path.exists()]
    return verdict("the end leaves no process and no file behind", problems)


def pids_of(stage: Stage) -> list[int]:
    """Of all servers and of the operator."""
    return [*stage.management.pids.values(), *stage.target.pids.values(), stage.postgres.pid, stage.operator.pid]


def _identity(stage: Stage) -> Verdict:
    identities = ((stage.management, stage.operator_kubeconfig), (stage.target, stage.target_kubeconfig))
    problems = (
        f"it may {what} on the {cluster.name} cluster"
        for cluster, kubeconfig in identities
        for what in FORBIDDEN[cluster.name]
        if _may(stage, cluster, kubeconfig, *what.split())
    )
    return verdict("the operator is no cluster-admin on either cluster, and reads no Secrets on the target", problems)


def _may(stage: Stage, cluster: ClusterAccess, kubeconfig: str, *what: str) -> bool:
    path = stage.folder / f"{cluster.name}-as-operator.kubeconfig"
    path.touch(mode=0o600)
    path.write_text(kubeconfig)
    try:
        return cluster.kubectl("auth", "can-i", *what, "--kubeconfig", str(path)).strip() == "yes"
    except KubectlError as error:
        if error.stdout.strip() == "no":
            return False
        raise
    finally:
        path.unlink()


def _platform(management: ClusterAccess) -> Verdict:
    bodies = management.get(*PLATFORM_OBJECTS)["items"]
    return verdict(
        "cluster, database server and both plans are Ready",
        (f"{body['kind']} {name_of(body)}: {problem}" for body in bodies for problem in ready_problems(body)),
    )


def _deletion(stage: Stage, found: Mapping[TenantName, Findings]) -> list[Verdict]:
    name = f"deleting {OTHER} removes namespace, database, roles, host claim, record and the Tenant"
    seconds = f"{DELETE_SECONDS:.0f}s"
    try:
        stage.management.kubectl(
            *("delete", "tenant", OTHER.name, "-n", OTHER.workspace, f"--timeout={seconds}"),
            timeout=DELETE_SECONDS + 10,
        )
    except KubectlError as error:
        return [Verdict(name, (error.stderr.strip(),))]
    if OTHER not in found:
        return [Verdict(name, ("it was never there",))]
    untouched = {other: one for other, one in found.items() if other != OTHER}
    deadline = time.monotonic() + RECORD_SECONDS
    after = gather(stage)
    # The record is the very last to go, after the Tenant's finalizer, so kubectl may be back before that.
    while (gone := gone_problems(found[OTHER], after, _world(stage))) and time.monotonic() < deadline:
        time.sleep(0.2)  # a process is polled; the deadline bounds it
        after = gather(stage)
    return [
        verdict(name, gone),
        verdict("the other tenants keep every object, and are Ready", unchanged_problems(untouched, after)),
    ]


def _world(stage: Stage) -> dict[str, set[str]]:
    databases = look_at_databases(stage.postgres)
    claims = stage.target.get("configmaps", "-n", SYSTEM_NAMESPACE, "-l", LABEL_CLAIM)["items"]
    return {
        "namespaces": {name_of(body) for body in stage.target.get("namespaces")["items"]},
        "records": {name_of(body) for body in stage.management.get("tenantrecords")["items"]},
        "claims": {name_of(body) for body in claims},
        "databases": {name for name, one in databases.items() if one.exists},
        "roles": {role for one in databases.values() for role in one.roles},
        "databaseClaims": {name for name, one in databases.items() if one.claim},
    }


def _secrecy(stage: Stage, found: Mapping[TenantName, Findings]) -> Verdict:
    tokens = (
        json.loads(text)["users"][0]["user"]["token"] for text in (stage.operator_kubeconfig, stage.target_kubeconfig)
    )
    secrets = {stage.postgres.admin_password, stage.postgres.superuser_password, API_KEY, *tokens}
    secrets |= {value for one in found.values() for value in one.secrets}
    kinds = "clusters,databaseservers,tenantplans,tenantrecords"
    texts = {
        "the operator's log": stage.operator.log_text,
        "the operator's argument list": " ".join(psutil.Process(stage.operator.pid).cmdline()),
        "the operator's metrics": stage.operator.get("/metrics") or "",
        "a Tenant": json.dumps([one.tenant for one in found.values()]),
        "an object of the platform": json.dumps(stage.management.get(kinds)),
        "an event": json.dumps([stage.management.get("events.events.k8s.io", "-A")["items"]]),
        "an object of a tenant that is no Secret": json.dumps([(one.objects, one.claims) for one in found.values()]),
    }
    return verdict(
        "no password or token in log, arguments, metrics, Tenants, records, events or other objects",
        leak_problems(secrets, texts),
    )

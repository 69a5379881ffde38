"""What must be true of the quick start, as pure checks of what was found: each names its problems, or has none."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from tests.demo.findings import Findings, Json, name_of
from tests.demo.proofs import Proofs
from tests.demo.quickstart import EXPECTED, Expectation, TenantName

from tenantry.api.names import (
    ANNOTATION_HOST,
    CONFIG_MAP_INFO,
    LIMIT_RANGE,
    RESOURCE_QUOTA,
    SECRET_DATABASE,
    SECRET_ENV,
    SERVICE_ACCOUNT,
)

CONDITIONS: Final = frozenset({"Ready", "Placed", "NamespaceReady", "DatabaseReady", "SecretsReady", "IngressReady"})
POLICIES: Final = frozenset({"tenant-isolation", "tenant-ingress-controller", "tenant-egress", "tenant-database"})
BINDING_KEYS: Final = frozenset({"type", "provider", "host", "port", "database", "username", "password", "uri"})
"""What the Service Binding specification asks for, and psql's `uri`."""
POD_SECURITY: Final = "pod-security.kubernetes.io/enforce"
LEAST_SECRET: Final = 6
"""Shorter values, such as a port or a log level, are no secrets and stand everywhere."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One assertion.

    Attributes:
        name: What is asserted, in words.
        problems: What speaks against it; none: it holds.
    """

    name: str
    problems: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether it holds."""
        return not self.problems


def verdict(name: str, problems: Iterable[str]) -> Verdict:
    """A verdict from whatever yields problems."""
    return Verdict(name, tuple(problems))


def judge_tenants(found: Mapping[TenantName, Findings]) -> list[Verdict]:
    """Everything about all tenants that can be seen in what was found."""
    missing = [f"{name} is not there" for name in EXPECTED if name not in found]
    verdicts = [verdict("three tenants in two workspaces are there", missing)]
    for name, expected in EXPECTED.items():
        if name in found:
            verdicts += _judge_tenant(found[name], expected)
    return verdicts


def judge_proofs(proofs: Mapping[TenantName, Proofs]) -> list[Verdict]:
    """Every tenant gets into its own database, and into no other."""
    verdicts = []
    for name in EXPECTED:
        if name not in proofs:
            verdicts.append(Verdict(f"{name}: database and credentials", ("it has none",)))
            continue
        own, others = proofs[name].own, proofs[name].others
        bad = [f"{what}: {answer.text}" for what, answer in others.items() if not answer.good]
        untried = [f"only {len(others)} other databases were tried"] if len(others) < len(EXPECTED) else []
        verdicts += [
            verdict(f"{name}: a query through the Secret's own uri", [] if own.good else [own.text]),
            verdict(f"{name}: its login is refused by all other databases", bad + untried),
        ]
    return verdicts


def ready_problems(body: Json, conditions: Iterable[str] = ("Ready",)) -> list[str]:
    """What speaks against an object being Ready in its present generation."""
    status = body.get("status", {})
    have = {entry["type"]: entry for entry in status.get("conditions", [])}
    problems = [
        f"{kind} is {have[kind]['status'] if kind in have else 'not there'}: {have.get(kind, {}).get('message', '')}"
        for kind in conditions
        if have.get(kind, {}).get("status") != "True"
    ]
    if status.get("observedGeneration") != body["metadata"]["generation"]:
        problems.append(f"status is of generation {status.get('observedGeneration')}")
    return problems


def gone_problems(before: Findings, after: Mapping[TenantName, Findings], world: Mapping[str, Any]) -> list[str]:
    """What a deleted tenant left behind.

    Args:
        before: What it had.
        after: What was found when it was gone.
        world: The names of what is there now: `namespaces`, `records`, `claims`, `databases`, `roles`,
            `databaseClaims`.
    """
    database = before.database
    had: dict[str, set[str]] = {
        "namespaces": {before.namespace},
        "records": {name_of(before.record)} if before.record else set(),
        "claims": {name_of(claim) for claim in before.claims},
        "databases": {database.name} if database else set(),
        "roles": set(database.roles) if database else set(),
        "databaseClaims": {database.name} if database else set(),
    }
    problems = [f"the Tenant {before.name} itself is still there"] if before.name in after else []
    problems += [f"there was nothing of {kind} to begin with" for kind, names in had.items() if not names]
    return problems + [
        f"still there in {kind}: {', '.join(sorted(left))}"
        for kind, names in had.items()
        if (left := names & world[kind])
    ]


def unchanged_problems(before: Mapping[TenantName, Findings], after: Mapping[TenantName, Findings]) -> list[str]:
    """What happened to tenants that nobody touched."""
    problems = []
    for name, former in before.items():
        now = after.get(name)
        if now is None:
            problems.append(f"{name} is gone")
        elif _identities(former) != _identities(now):
            problems.append(f"{name}: objects were removed or made again")
        elif former.database != now.database:
            problems.append(f"{name}: its database is not what it was")
        else:
            problems += [f"{name}: {problem}" for problem in ready_problems(now.tenant)]
    return problems


def leak_problems(secrets: Iterable[str], texts: Mapping[str, str]) -> list[str]:
    """Where a secret value stands, as it is, in base64, or as a URI quotes it. Never tells the value."""
    forms = set[str]()
    for secret in secrets:
        if len(secret) >= LEAST_SECRET:
            forms |= {secret, quote(secret, safe=""), base64.b64encode(secret.encode()).decode()}
    problems = [f"{where} has a secret value in it" for where, text in texts.items() if any(s in text for s in forms)]
    empty = [f"{where} is empty: nothing was searched" for where, text in texts.items() if not text.strip()]
    return problems + empty + ([] if forms else ["no secret was known to search for"])


def _judge_tenant(found: Findings, expected: Expectation) -> list[Verdict]:
    name = found.name
    return [
        verdict(f"{name}: Ready, every condition True", ready_problems(found.tenant, sorted(CONDITIONS))),
        verdict(f"{name}: a namespace with Pod Security", _namespace_problems(found)),
        verdict(f"{name}: quota enforced, LimitRange there", _quota_problems(found)),
        verdict(f"{name}: network policies", _names_problems(found, "NetworkPolicy", POLICIES)),
        verdict(f"{name}: role bindings and ServiceAccount", _binding_problems(found, expected)),
        verdict(f"{name}: Secrets and facts", _secret_problems(found, expected)),
        verdict(f"{name}: Ingress for {expected.host}, host claimed", _ingress_problems(found, expected)),
        verdict(f"{name}: database, roles, claim", _database_problems(found)),
        verdict(f"{name}: TenantRecord", _record_problems(found)),
    ]


def _names_problems(found: Findings, kind: str, wanted: Iterable[str]) -> list[str]:
    names, have = set(wanted), {name_of(body) for body in found.of_kind(kind)}
    return [f"{kind} is {sorted(have)}, not {sorted(names)}"] if names != have else []


def _namespace_problems(found: Findings) -> list[str]:
    problems = _names_problems(found, "Namespace", {found.namespace})
    labels = found.named("Namespace", found.namespace).get("metadata", {}).get("labels", {})
    level = labels.get(POD_SECURITY)
    return problems if level == "restricted" else [*problems, f"Pod Security is {level}"]


def _quota_problems(found: Findings) -> list[str]:
    problems = _names_problems(found, "LimitRange", {LIMIT_RANGE})
    quota = found.named("ResourceQuota", RESOURCE_QUOTA)
    hard, enforced = quota.get("spec", {}).get("hard", {}), quota.get("status", {}).get("hard", {})
    if not hard or hard != enforced:
        problems.append(f"the quota asks for {hard} and enforces {enforced}")
    return problems


def _binding_problems(found: Findings, expected: Expectation) -> list[str]:
    problems = _names_problems(found, "RoleBinding", expected.bindings)
    return problems + _names_problems(found, "ServiceAccount", {SERVICE_ACCOUNT})


def _secret_problems(found: Findings, expected: Expectation) -> list[str]:
    problems = _names_problems(found, "Secret", {SECRET_DATABASE, SECRET_ENV})
    problems += _names_problems(found, "ConfigMap", {CONFIG_MAP_INFO})
    env = set(found.named("Secret", SECRET_ENV).get("data", {}))
    if env != expected.env:
        problems.append(f"{SECRET_ENV} has {sorted(env)}, not {sorted(expected.env)}")
    missing = BINDING_KEYS - set(found.named("Secret", SECRET_DATABASE).get("data", {}))
    return [*problems, f"{SECRET_DATABASE} lacks {sorted(missing)}"] if missing else problems


def _ingress_problems(found: Findings, expected: Expectation) -> list[str]:
    hosts = [rule["host"] for ingress in found.of_kind("Ingress") for rule in ingress["spec"]["rules"]]
    claimed = [claim["metadata"]["annotations"].get(ANNOTATION_HOST) for claim in found.claims]
    problems = [] if hosts == [expected.host] else [f"the Ingress is for {hosts}"]
    return problems if claimed == [expected.host] else [*problems, f"claimed is {claimed}"]


def _database_problems(found: Findings) -> list[str]:
    database = found.database
    if database is None or not database.exists:
        return ["there is no database"]
    logins = [login for login in database.roles.values() if login]
    problems = [] if database.claim == "ready" else [f"its claim is {database.claim or 'not there'}"]
    if database.owner in database.roles:
        problems.append(f"the tenant's own role {database.owner} owns it")
    if len(database.roles) != 3 or not logins or database.roles.get(f"{database.name}_owner", True):
        problems.append(f"its roles are {dict(database.roles)}")
    return problems


def _record_problems(found: Findings) -> list[str]:
    if found.record is None:
        return ["there is none"]
    spec = found.record["spec"]
    return [] if spec["state"] == "Active" else [f"its state is {spec['state']}"]


def _identities(found: Findings) -> set[tuple[str, str]]:
    return {(body["kind"], str(body["metadata"]["uid"])) for body in (*found.objects, *found.claims)}

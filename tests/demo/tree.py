"""One tenant as a tree: everything that was made for it, and where."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from rich.text import Text
from rich.tree import Tree
from tests.demo.findings import Findings, Json, name_of
from tests.demo.proofs import Proofs
from tests.demo.screen import Marks

from tenantry.api.names import ANNOTATION_HOST

POD_SECURITY: Final = "pod-security.kubernetes.io/enforce"
SHOWN_QUOTA: Final = ("requests.cpu", "requests.memory", "limits.memory", "pods", "requests.storage")


def tenant_tree(found: Findings, seconds: float, proofs: Proofs | None, marks: Marks) -> Tree:
    """The tree of one tenant.

    Args:
        found: What there is.
        seconds: From its apply to Ready.
        proofs: What its login can do; None for a tenant without a database.
        marks: The terminal's signs.
    """
    url = found.status.get("url") or "no address"
    tree = Tree(Text.assemble((str(found.name), "bold"), f"  Ready in {seconds:.1f} s  ", (url, "cyan")))
    _management(tree, found)
    _namespace(tree, found)
    _claims(tree, found)
    _database(tree, found, proofs, marks)
    return tree


def _management(tree: Tree, found: Findings) -> None:
    if found.record is not None:
        state = found.record["spec"]["state"]
        tree.add(Text(f"on the management cluster: TenantRecord {name_of(found.record)} ({state})"))


def _namespace(tree: Tree, found: Findings) -> None:
    cluster = found.status.get("cluster", "")
    for namespace in found.of_kind("Namespace"):
        security = namespace["metadata"]["labels"].get(POD_SECURITY, "none")
        branch = tree.add(Text(f"on cluster {cluster}: Namespace {name_of(namespace)} (pod security: {security})"))
        for quota in found.of_kind("ResourceQuota"):
            branch.add(Text(f"ResourceQuota {name_of(quota)}: {_quota(quota)}"))
        for kind, plural in (
            ("LimitRange", "LimitRange"),
            ("NetworkPolicy", "NetworkPolicies"),
            ("ServiceAccount", "ServiceAccount"),
        ):
            _list(branch, plural, map(name_of, found.of_kind(kind)))
        _list(branch, "RoleBindings", map(_binding, found.of_kind("RoleBinding")))
        _list(branch, "ConfigMap", map(name_of, found.of_kind("ConfigMap")))
        for secret in found.of_kind("Secret"):
            _list(branch, f"Secret {name_of(secret)} with", sorted(secret["data"]))
        for ingress in found.of_kind("Ingress"):
            _list(branch, f"Ingress {name_of(ingress)} for", (rule["host"] for rule in ingress["spec"]["rules"]))


def _claims(tree: Tree, found: Findings) -> None:
    for claim in found.claims:
        host = claim["metadata"]["annotations"].get(ANNOTATION_HOST, "")
        tree.add(Text(f"claim of host {host}: ConfigMap {name_of(claim)[:17]}... in {claim['metadata']['namespace']}"))


def _database(tree: Tree, found: Findings, proofs: Proofs | None, marks: Marks) -> None:
    database = found.database
    if database is None:
        return
    owner = f"owner {database.owner}, claim {database.claim}"
    branch = tree.add(Text(f"on the database server: database {database.name} ({owner})"))
    roles = (f"{role} ({'login' if login else 'no login'})" for role, login in database.roles.items())
    _list(branch, "roles", roles)
    if proofs is None:
        return
    branch.add(_answer("with the Secret's own uri", proofs.own.good, proofs.own.text, marks))
    refused = [what for what, answer in proofs.others.items() if answer.good]
    for what, answer in proofs.others.items():
        if not answer.good:
            branch.add(_answer(f"the same login is NOT refused by {what}", answer.good, answer.text, marks))
        elif what == refused[0]:
            branch.add(_answer(f"the same login is refused by {what}", answer.good, answer.text, marks))
    if refused[1:]:
        branch.add(_answer("and in the same way by", True, ", ".join(refused[1:]), marks))


def _answer(what: str, good: bool, text: str, marks: Marks) -> Text:
    return Text.assemble((marks.good if good else marks.bad, "green" if good else "red"), f" {what}: ", (text, "dim"))


def _list(branch: Tree, title: str, names: Iterable[str]) -> None:
    text = ", ".join(names)
    if text:
        branch.add(Text(f"{title} {text}" if title.endswith(("with", "for")) else f"{title}: {text}"))


def _quota(quota: Json) -> str:
    hard = quota["spec"]["hard"]
    shown = [f"{name} {hard[name]}" for name in SHOWN_QUOTA if name in hard]
    more = len(hard) - len(shown)
    enforced = "enforced" if quota.get("status", {}).get("hard") else "not enforced yet"
    return f"{', '.join(shown)} and {more} more ({enforced})"


def _binding(binding: Json) -> str:
    subjects = ", ".join(subject["name"] for subject in binding["subjects"])
    return f"{name_of(binding)} ({subjects})"

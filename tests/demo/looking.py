"""The lines to copy into another terminal; the demo's check runs them, so they work."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.demo.findings import Findings
from tests.demo.quickstart import TenantName

from tenantry.api.names import SECRET_DATABASE

EXAMPLE: Final = TenantName("shop", "acme")
OTHER: Final = TenantName("shop", "globex")
LINE_SECONDS: Final = 60.0
KINDS: Final = "quota,limits,networkpolicies,serviceaccounts,rolebindings,configmaps,secrets,ingresses"


@dataclass(frozen=True, slots=True)
class Line:
    """One command.

    Attributes:
        command: As it is to be copied.
        about: What it shows.
        harmless: Ends by itself and changes nothing, so that the check may run it.
    """

    command: str
    about: str
    harmless: bool = True


def lines(setup: str, found: Mapping[TenantName, Findings], log: Path) -> list[Line]:
    """All lines, the first one being what the others need."""
    example = found.get(EXAMPLE)
    copied = [
        Line(setup, "first of all, in each terminal"),
        Line("kubectl get tenants -A", "the tenants"),
        Line("kubectl get clusters,databaseservers,tenantplans,tenantrecords", "the platform, and what exists"),
        Line(f"kubectl describe tenant {EXAMPLE.name} -n {EXAMPLE.workspace}", "spec, conditions, events"),
    ]
    if example is not None and example.namespace:
        inside = f"kubectl --context target -n {example.namespace} get"
        uri = f"{inside} secret {SECRET_DATABASE} -o go-template='{{{{.data.uri | base64decode}}}}'"
        copied += [
            Line(f"{inside} {KINDS}", f"all in the namespace of {EXAMPLE}"),
            Line(f'psql "$({uri})" -c "TABLE greetings"', f"the database of {EXAMPLE}"),
        ]
    return [
        *copied,
        Line(f"kubectl delete tenant {OTHER.name} -n {OTHER.workspace}", "see all of it go", harmless=False),
        Line(f"tail -f {shlex.quote(str(log))}", "what the operator says", harmless=False),
    ]


def setup_line(folder: Path, kubeconfig: Path) -> str:
    """What a terminal needs: the programs and the kubeconfig."""
    return f"export PATH={shlex.quote(str(folder))}:$PATH KUBECONFIG={shlex.quote(str(kubeconfig))}"


def try_lines(copied: Iterable[Line]) -> list[str]:
    """Run the harmless lines as somebody would who copies them; what went wrong, if anything."""
    setup, *rest = copied
    problems = []
    for line in rest:
        if not line.harmless:
            continue
        done = subprocess.run(
            ["sh", "-c", f"{setup.command}\n{line.command}"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=LINE_SECONDS,
        )
        if done.returncode or not done.stdout.strip():
            problems.append(f"`{line.command}` ended with {done.returncode}: {done.stderr.strip()[-500:]}")
    return problems

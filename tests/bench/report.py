"""The figures of a run: as a table for people and as one JSON object for machines; pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from tests.bench.figures import Requests, percentile
from tests.bench.run import Batch, Outcome

Figure = float | int | None


def ratio(batches: Sequence[Batch]) -> float | None:
    """Tenants a second by the operator over those by the floor: both made as many, so it is the times' inverse."""
    if not batches:
        return None
    return sum(batch.floor_seconds for batch in batches) / sum(batch.run.seconds for batch in batches)


def figures(outcome: Outcome) -> dict[str, Figure]:
    """What is printed as the last line."""
    batches = outcome.batches
    made = sum(batch.tenants for batch in batches)
    waits = [wait for batch in batches for wait in batch.run.waits]
    requests = total(batches)
    rest, restart = outcome.rest, outcome.restart
    minutes = outcome.rest_seconds / 60 or 1.0
    found: dict[str, Figure] = {
        "tenants": outcome.tenants,
        "ratio_to_floor": ratio(batches),
        "ratio_to_floor_with_databases": ratio(outcome.database_batches),
        "writes_per_object": requests.writes / max(1, sum(batch.objects for batch in batches)),
        "reads_per_tenant": requests.reads / max(1, made),
        "rest_writes_per_min": rest.writes / minutes if rest else None,
        "rest_reads_per_min": rest.reads / minutes if rest else None,
        "restart_writes": restart.writes if restart else None,
        "peak_rss_mb": outcome.peak_kb / 1024,
        "single_ready_p50_s": percentile(outcome.singles, 0.5) if outcome.singles else None,
        "ready_p99_s": percentile(waits, 0.99) if waits else None,
        "ready_p50_s": percentile(waits, 0.5) if waits else None,
        "restart_reads_per_tenant": restart.reads / max(1, outcome.tenants) if restart else None,
        "refused_writes_per_tenant": requests.refused / max(1, made),
        "objects_per_tenant": sum(batch.objects for batch in batches) / max(1, made),
        "cpu_ms_per_tenant": sum(batch.cpu_seconds for batch in batches) / max(1, made) * 1000,
        "rss_slope_kb_per_tenant": outcome.slope_kb,
        "operator_tenants_per_s": _rate(made, sum(batch.run.seconds for batch in batches)),
        "floor_tenants_per_s": _rate(made, sum(batch.floor_seconds for batch in batches)),
        "applied_tenants_per_s": _rate(made, sum(batch.run.applied for batch in batches)),
    }
    found |= _of_databases(outcome.database_batches)
    return {name: round(value, 3) if isinstance(value, float) else value for name, value in found.items()}


def total(batches: Sequence[Batch]) -> Requests:
    """The requests of several batches."""
    together = Requests(by_verb=Counter(), writes=0, refused=0)
    for batch in batches:
        together += batch.requests
    return together


def table(outcome: Outcome) -> str:
    """What people read."""
    lines = [f"{name:32} {'-' if value is None else value}" for name, value in figures(outcome).items()]
    made = sum(batch.tenants for batch in outcome.batches)
    verbs = total(outcome.batches).by_verb
    lines.append(f"{'requests per tenant by verb':32} {_by_verb(verbs, made)}")
    if outcome.restart is not None:
        lines.append(f"{'requests at the restart by verb':32} {_by_verb(outcome.restart.by_verb, 1)}")
    for name, batches in (("batches", outcome.batches), ("with databases", outcome.database_batches)):
        ratios = " ".join(f"{batch.floor_seconds / batch.run.seconds:.2f}" for batch in batches)
        lines.append(f"{'ratios, ' + name:32} {ratios or '-'}")
    return "\n".join(lines)


def _of_databases(batches: Sequence[Batch]) -> dict[str, Figure]:
    made = sum(batch.tenants for batch in batches)
    waits = [wait for batch in batches for wait in batch.run.waits]
    if not waits:
        return {}
    return {
        "tenants_with_databases": made,
        "ready_p50_s_with_databases": percentile(waits, 0.5),
        "ready_p99_s_with_databases": percentile(waits, 0.99),
        "cpu_ms_per_tenant_with_databases": sum(batch.cpu_seconds for batch in batches) / made * 1000,
        "operator_tenants_per_s_with_databases": _rate(made, sum(batch.run.seconds for batch in batches)),
        "floor_tenants_per_s_with_databases": _rate(made, sum(batch.floor_seconds for batch in batches)),
    }


def _rate(tenants: int, seconds: float) -> float | None:
    return tenants / seconds if seconds else None


def _by_verb(verbs: Counter[str], tenants: int) -> str:
    return ", ".join(f"{verb} {count / max(1, tenants):.4g}" for verb, count in verbs.most_common()) or "-"

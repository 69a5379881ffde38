"""What a tenant has after its plan and its own wishes were put together: the plan's ceilings always hold."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal

from tenantry.api.conditions import ConditionType, Reason
from tenantry.api.effective import Effective
from tenantry.api.tenant import TenantSpec
from tenantry.api.tenantplan import DEFAULT_QUOTA, TenantPlanSpec
from tenantry.decide.backuppolicy import backups
from tenantry.decide.deletion import pinned_deletion
from tenantry.decide.halt import Terminal
from tenantry.decide.quantities import parse_quantity

SERVICE_TYPE_QUOTAS = {"NodePort": "services.nodeports", "LoadBalancer": "services.loadbalancers"}
_WHOLE = re.compile(r"[0-9]+")
_FRACTION = re.compile(r"[0-9]+(\.[0-9]+)?")


def effective(spec: TenantSpec, plan: str, plan_spec: TenantPlanSpec) -> Effective:
    """Put plan and spec together.

    Raises:
        Terminal: PlanExceeded, with the field and the most that the plan allows.
    """
    mode = _mode(spec, plan, plan_spec)
    quota = _quota(spec, plan, plan_spec)
    limits = _limits(spec, plan, plan_spec)
    clash = sorted(set(limits) & set(spec.env))
    if clash:
        raise _exceeded(f"spec.env sets {clash[0]}, which is a limit of plan {plan!r}; take it out of env")
    return Effective(
        plan=plan,
        env={**plan_spec.env, **spec.env},
        limits=limits,
        quota=quota,
        container=plan_spec.limit_range.container,
        network=plan_spec.network,
        pod_security=plan_spec.pod_security,
        image_pull_policy=plan_spec.image_pull_policy,
        service_types=(
            "ClusterIP",
            *(kind for kind, name in SERVICE_TYPE_QUOTAS.items() if parse_quantity(quota[name]) > 0),
        ),
        mode=mode,
        extensions=_extensions(spec, plan, plan_spec),
        max_connections=_connections(spec, plan, plan_spec),
        deletion=pinned_deletion(spec, plan, plan_spec),
        backup=backups(spec, plan, plan_spec),
    )


def merged_env(
    own: Effective, from_secrets: Sequence[Mapping[str, str]], spec_env: Mapping[str, str]
) -> dict[str, str]:
    """All that goes into `tenant-env`: plan < envFrom in order < spec.env, and limits, which nothing overrides."""
    env = dict(own.env)
    for source in from_secrets:
        env.update(source)
    env.update(spec_env)
    env.update(own.limits)
    return env


def _exceeded(message: str) -> Terminal:
    return Terminal(ConditionType.PLACED, Reason.PLAN_EXCEEDED, message)


def _mode(spec: TenantSpec, plan: str, plan_spec: TenantPlanSpec) -> str:
    if spec.tier not in plan_spec.allowed_tiers:
        raise _exceeded(
            f"spec.tier: plan {plan!r} does not have {spec.tier}; it has {_listed(plan_spec.allowed_tiers)}"
        )
    mode = spec.database.mode or (plan_spec.allowed_modes[0] if plan_spec.allowed_modes else "None")
    if mode not in plan_spec.allowed_modes:
        raise _exceeded(
            f"spec.database.mode: plan {plan!r} does not have {mode}; it has {_listed(plan_spec.allowed_modes)}"
        )
    return mode


def _limits(spec: TenantSpec, plan: str, plan_spec: TenantPlanSpec) -> dict[str, str]:
    ceilings = plan_spec.ceilings.limits
    given = {
        name: value if name not in ceilings or _limit_within(value, ceilings[name]) else ceilings[name]
        for name, value in plan_spec.limits.items()
    }
    for name, wanted in spec.limits.items():
        if name in ceilings:
            if not _limit_within(wanted, ceilings[name]):
                raise _exceeded(
                    f"spec.limits.{name}: {wanted!r} is more than plan {plan!r} gives, which is {_most(ceilings[name])}"
                )
        elif "limits" not in plan_spec.overridable and wanted != given.get(name):
            raise _exceeded(f"spec.limits.{name}: plan {plan!r} does not let a tenant set it; take it out")
    return {**given, **spec.limits}


def _limit_within(wanted: str, ceiling: str) -> bool:
    """Limits are opaque: as numbers where both are, 0 being unlimited; otherwise only the same text is within.

    Only what every program reads as the same number is one. `0_5` and ` 5` are none, nor is `0.5` where the ceiling is
    whole: a program that reads whole numbers would take it for 0, which is unlimited.
    """
    if wanted == ceiling:
        return True
    unlimited = _FRACTION.fullmatch(ceiling) is not None and Decimal(ceiling) == 0
    number = _FRACTION if unlimited or "." in ceiling else _WHOLE
    if not (number.fullmatch(wanted) and number.fullmatch(ceiling)):
        return False
    return unlimited or 0 < Decimal(wanted) <= Decimal(ceiling)


def _quota(spec: TenantSpec, plan: str, plan_spec: TenantPlanSpec) -> dict[str, str]:
    given = {name: str(value) for name, value in plan_spec.quota.hard.items()}
    for kind_quota in SERVICE_TYPE_QUOTAS.values():
        given.setdefault(kind_quota, str(DEFAULT_QUOTA[kind_quota]))
    for name, ceiling in plan_spec.ceilings.quota.items():
        # What has no quota is unlimited in Kubernetes, so a ceiling holds for those who ask for nothing, too.
        if name not in given or parse_quantity(given[name]) > parse_quantity(ceiling):
            given[name] = str(ceiling)
    own = spec.quota.hard if spec.quota else {}
    for name, wanted in own.items():
        most = plan_spec.ceilings.quota.get(name, given.get(name))
        allowed_freely = "quota" in plan_spec.overridable and name not in plan_spec.ceilings.quota
        if most is None:
            # A quota the plan doesn't have at all can only make the tenant smaller.
            continue
        if not allowed_freely and _quantity(name, wanted) > parse_quantity(most):
            raise _exceeded(f"spec.quota.hard[{name}]: {wanted} is more than plan {plan!r} gives, which is {most}")
    return {**given, **{name: str(value) for name, value in own.items()}}


def _quantity(name: str, text: str | int) -> Decimal:
    try:
        return parse_quantity(text)
    except ValueError as error:
        raise _exceeded(f"spec.quota.hard[{name}]: {error}") from error


def _connections(spec: TenantSpec, plan: str, plan_spec: TenantPlanSpec) -> int:
    wanted = spec.database.max_connections
    if wanted is None:
        return plan_spec.max_connections
    if wanted > plan_spec.max_connections and "database.maxConnections" not in plan_spec.overridable:
        raise _exceeded(
            f"spec.database.maxConnections: {wanted} is more than plan {plan!r} gives, "
            f"which is {plan_spec.max_connections}"
        )
    return wanted


def _extensions(spec: TenantSpec, plan: str, plan_spec: TenantPlanSpec) -> tuple[str, ...]:
    for name in spec.database.extensions:
        if name not in plan_spec.extensions:
            raise Terminal(
                ConditionType.DATABASE_READY,
                Reason.EXTENSION_NOT_ALLOWED,
                f"spec.database.extensions: plan {plan!r} does not have {name}; it has {_listed(plan_spec.extensions)}",
            )
    return tuple(sorted(set(spec.database.extensions)))


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) if names else "none"


def _most(ceiling: str) -> str:
    return "unlimited" if ceiling == "0" else f"at most {ceiling}"

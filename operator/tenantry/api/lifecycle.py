"""The parts of a Tenant's spec that say what becomes of it in time: its end, its deletion, its new credentials."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field

from tenantry.api.base import Duration, Model, Rule, rules, window_bound


class Ephemeral(Model):
    """A throw-away tenant."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule(
                "duration(self.ttl) >= duration('1m') && duration(self.ttl) <= duration('8760h')",
                "ttl must be a duration from 1m to 8760h (a year)",
                ".ttl",
            )
        )
    )

    ttl: Duration = Field(description="Deleted this long after its creation.")


class Rotation(Model):
    """How the tenant's database credentials are changed without an outage: by turns between two logins."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule(
                "!has(self.interval) || (duration(self.interval) >= duration('1h') && "
                "duration(self.interval) <= duration('87600h'))",
                "interval must be a duration from 1h to 87600h (ten years)",
                ".interval",
            ),
            Rule(
                "!has(self.gracePeriod) || duration(self.gracePeriod) <= duration('8760h')",
                "gracePeriod can be at most 8760h (a year)",
                ".gracePeriod",
            ),
            Rule(
                "!has(self.interval) || !has(self.gracePeriod) || duration(self.gracePeriod) < duration(self.interval)",
                "gracePeriod must be shorter than interval: the former login is locked before it is used again",
                ".gracePeriod",
            ),
        )
    )

    interval: Duration | None = Field(None, description="New credentials this often. Without it: only when asked for.")
    grace_period: Duration = Field(
        "24h", description="How long the former login stays open; after that it is locked as soon as no session has it."
    )
    restart_workloads: bool = Field(
        False, description="Restart the workloads that read the credentials from their environment."
    )


class Deletion(Model):
    """What happens when the Tenant is deleted."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            window_bound("window"),
        )
    )

    policy: Literal["Delete", "Retain"] = Field(
        "Delete",
        description="Delete: kept for the window, then destroyed. Retain: goes on running unmanaged, never destroyed.",
    )
    window: Duration | None = Field(
        None,
        description="How long a deleted tenant can be had back by applying it again; 0s: it is destroyed at once. "
        "Without it: 24h, of an ephemeral tenant 0s, or what of that the plan allows.",
    )
    final_backup: bool | None = Field(
        None, description="Back the database up before it is destroyed. Without it: as the plan has it."
    )
    protected: bool = Field(
        False, description="Its deletion is refused until this is false; a workspace with it can't be deleted either."
    )

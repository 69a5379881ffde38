"""Moves: the phases that a tenant goes through from one place to another, and what its status tells of them."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from tenantry.api.base import Model, ShortText


class MovePhase(StrEnum):
    """How far a move is.

    Until `Switched` the tenant's place is the old one, and the move can be rolled back; from then on it is the new one.
    """

    PREPARING = "Preparing"
    STOPPING = "Stopping"
    COPYING = "Copying"
    SWITCHED = "Switched"


class MoveStatus(Model):
    """The last move: a report, nothing is decided from it."""

    phase: Annotated[str, Field(max_length=16)] = Field(
        description="Preparing, Stopping, Copying, Switched; in the end Completed or RolledBack."
    )
    origin: Annotated[str, Field(max_length=512)] = Field("", description="Where from.")
    destination: Annotated[str, Field(max_length=512)] = Field("", description="Where to, as the approval names it.")
    started_at: ShortText | None = None
    write_stopped_at: ShortText | None = Field(None, description="Since when nothing could be written.")
    write_stop_seconds: int | None = Field(None, description="How long nothing could be written.")

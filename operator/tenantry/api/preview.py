"""Preview: what a Tenant's held spec would do, as its status tells it: bounded, and without any secret."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field

from tenantry.api.base import Model, Text

MOST_ITEMS: Final = 48
MOST_REASONS: Final = 8
MOST_FIELDS: Final = 32
MAX_WHAT: Final = 320
MAX_DETAIL: Final = 256
MAX_LINE: Final = 512

Line = Annotated[str, Field(max_length=MAX_LINE)]


class PreviewItem(Model):
    """One object on the target, host, or part of the database that would be another one."""

    action: Literal["Create", "Change", "Delete"]
    what: Annotated[str, Field(max_length=MAX_WHAT)]
    detail: Annotated[str, Field(max_length=MAX_DETAIL)] = Field(
        "", description="Which fields, from what to what; of a Secret only which keys."
    )


class PreviewRefusal(Model):
    """What the spec would be refused for, or would wait for."""

    condition: Annotated[str, Field(max_length=64)]
    reason: Annotated[str, Field(max_length=64)]
    message: Line = ""


class Preview(Model):
    """What would be created, changed and destroyed if the annotation tenantry.io/dry-run were taken off now."""

    generation: int = Field(description="Of the Tenant: the spec that this is about.")
    message: Text = Field("", description="All of it in a line.")
    data_loss: bool = Field(False, description="Something would be gone, or could be had back for a shorter time.")
    data_loss_reasons: Annotated[list[Line], Field(max_length=MOST_REASONS)] = []
    to_create: int = 0
    to_change: int = 0
    to_delete: int = 0
    items: Annotated[list[PreviewItem], Field(max_length=MOST_ITEMS)] = Field(
        default=[], description="What is deleted first, then what is changed, then what is created."
    )
    left_out: int = Field(0, description="How many items there are beside those that are listed.")
    refusals: Annotated[list[PreviewRefusal], Field(max_length=MOST_REASONS)] = []
    fields: Annotated[list[Annotated[str, Field(max_length=MAX_DETAIL)]], Field(max_length=MOST_FIELDS)] = Field(
        default=[], description="Fields of the spec that differ from the spec that was applied last."
    )

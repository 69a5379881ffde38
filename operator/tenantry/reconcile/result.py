"""What a reconcile asks for when it ended without an error."""

from __future__ import annotations

from dataclasses import dataclass

from tenantry.ports.kube import KubeError, UnreachableError


@dataclass(frozen=True, slots=True)
class Result:
    """When to reconcile the same key again; by default not before something happens.

    Attributes:
        requeue_after: Seconds until the next run, for what changes by time alone; None for no such time.
        retry: Something transient went wrong and was already told: run again with backoff, as after an exception.

    Raises:
        ValueError: if both are given, for only one of them could be kept, or if the time is negative.
    """

    requeue_after: float | None = None
    retry: bool = False

    def __post_init__(self) -> None:
        if self.requeue_after is None:
            return
        if self.retry:
            raise ValueError("a result asks for a retry or for a time, not for both")
        if self.requeue_after < 0:
            raise ValueError(f"requeue_after is {self.requeue_after} s: it can't be in the past")

    @classmethod
    def after(cls, error: KubeError) -> Result:
        """Run again after an API server refused or did not answer: when it asks for that, else with backoff."""
        asked = error.retry_after if isinstance(error, UnreachableError) else None
        return cls(requeue_after=asked) if asked else cls(retry=True)

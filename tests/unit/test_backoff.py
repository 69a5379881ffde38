"""Backoff as a rule: it grows, it is bounded, and jitter stays inside."""

from __future__ import annotations

from hypothesis import given, strategies

from tenantry.decide.backoff import Backoff

policies = strategies.builds(Backoff, base=strategies.floats(0.001, 10), cap=strategies.floats(10, 3600))
failures = strategies.integers(0, 100_000)


@given(policies, failures)
def test_the_wait_never_shrinks_and_never_exceeds_the_cap(policy: Backoff, count: int) -> None:
    assert policy.ceiling(count) <= policy.ceiling(count + 1) <= policy.cap


@given(policies, failures, strategies.floats(0, 1, exclude_max=True))
def test_jitter_only_shortens_the_wait(policy: Backoff, count: int, roll: float) -> None:
    assert 0 <= policy.delay(count, roll) <= policy.ceiling(count)


@given(policies)
def test_each_failure_doubles_the_wait_below_the_cap(policy: Backoff) -> None:
    assert policy.ceiling(0) == 0
    assert policy.ceiling(1) == policy.base
    assert policy.ceiling(2) == min(policy.cap, 2 * policy.base)
    assert policy.ceiling(100) == policy.cap

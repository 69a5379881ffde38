"""Whether a workspace may use a platform object: the rule of `allowedWorkspaces`."""

from __future__ import annotations

from collections.abc import Mapping

from tenantry.api.base import AllowedWorkspaces, LabelSelector, LabelSelectorRequirement


def allows(allowed: AllowedWorkspaces, labels: Mapping[str, str]) -> bool:
    """Whether a workspace with these labels is allowed."""
    match allowed.from_:
        case "All":
            return True
        case "Selector":
            return allowed.selector is not None and selects(allowed.selector, labels)
        case _:
            return False


def selects(selector: LabelSelector, labels: Mapping[str, str]) -> bool:
    """Whether the selector matches, as Kubernetes means it: all requirements hold; an empty selector matches all."""
    return all(labels.get(key) == value for key, value in selector.match_labels.items()) and all(
        _holds(requirement, labels) for requirement in selector.match_expressions
    )


def _holds(requirement: LabelSelectorRequirement, labels: Mapping[str, str]) -> bool:
    value = labels.get(requirement.key)
    match requirement.operator:
        case "In":
            return value in requirement.values
        case "NotIn":
            return value not in requirement.values  # also where the label is missing, as in Kubernetes
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None

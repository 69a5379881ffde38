"""Why a kubeconfig is refused: one reason a cause, stable because people alert on them."""

from __future__ import annotations

from enum import StrEnum, auto
from typing import Final

WAY_OUT: Final = "make a kubeconfig for a ServiceAccount: `tenantry cluster join`"


class KubeconfigReason(StrEnum):
    """The reasons, CamelCase as in conditions: `CA_MISSING` is `CaMissing`."""

    @staticmethod
    def _generate_next_value_(name: str, start: int, count: int, last_values: list[str]) -> str:  # noqa: ARG004 - enum's
        return name.title().replace("_", "")

    # the Secret around it
    SECRET_KEY_MISSING = auto()
    SECRET_INVALID = auto()
    # the document
    EMPTY = auto()
    TOO_LARGE = auto()
    BINARY = auto()
    MALFORMED = auto()
    TOO_COMPLEX = auto()
    YAML_ALIAS = auto()
    YAML_TAG = auto()
    DUPLICATE_KEY = auto()
    SEVERAL_DOCUMENTS = auto()
    # its structure
    NOT_A_KUBECONFIG = auto()
    UNKNOWN_FIELD = auto()
    CONTEXT_MISSING = auto()
    CONTEXT_UNKNOWN = auto()
    CLUSTER_MISSING = auto()
    USER_MISSING = auto()
    AMBIGUOUS_NAME = auto()
    # the cluster
    SERVER_MISSING = auto()
    SERVER_INVALID = auto()
    PLAIN_HTTP = auto()
    USER_INFO = auto()
    SERVER_NAME_INVALID = auto()
    INSECURE_TLS = auto()
    PROXY = auto()
    CA_FILE = auto()
    CA_MISSING = auto()
    CA_INVALID = auto()
    CA_EXPIRED = auto()
    # the user
    EXEC = auto()
    AUTH_PROVIDER = auto()
    TOKEN_FILE = auto()
    TOKEN_INVALID = auto()
    BASIC_AUTH = auto()
    IMPERSONATION = auto()
    CLIENT_CERTIFICATE_FILE = auto()
    CLIENT_CERTIFICATE_MISSING = auto()
    CLIENT_CERTIFICATE_INVALID = auto()
    CLIENT_CERTIFICATE_EXPIRED = auto()
    CLIENT_CERTIFICATE_NOT_YET_VALID = auto()
    CLIENT_KEY_FILE = auto()
    CLIENT_KEY_MISSING = auto()
    CLIENT_KEY_INVALID = auto()
    CLIENT_KEY_MISMATCH = auto()
    CREDENTIALS_MISSING = auto()


class KubeconfigRefused(Exception):  # noqa: N818 - a verdict on input, not a fault of ours
    """A kubeconfig that is not accepted.

    Attributes:
        reason: For conditions.
        message: Names the field, the problem and the way out; has no value of the kubeconfig in it but names.
    """

    def __init__(self, reason: KubeconfigReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


def shown(name: str) -> str:
    """A stranger's name, fit for a message: short, printable, quoted. What may be a secret (long) is cut to nothing."""
    if len(name) <= 100 and name.isprintable():
        return f'"{name}"'
    return f'"{name[:8]}..."' if name[:8].isprintable() else "(unprintable)"

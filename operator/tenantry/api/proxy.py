"""spec.proxy: the HTTP proxy through which a tenant reaches the world; its URL is in a Secret of the workspace."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field

from tenantry.api.base import Model, ObjectName, Rule

PROXY_NAMES: Final = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")
"""What programs read; some only the one form, some only the other."""

NoProxy = Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[A-Za-z0-9._:/\[\]-]+$")]
SecretKey = Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[A-Za-z0-9._-]+$")]


class ProxySecretRef(Model):
    """A key of a Secret in the Tenant's own workspace, with the label tenantry.io/env: "true"."""

    name: ObjectName
    key: SecretKey = Field("url", description="Its value is the proxy's URL, such as http://proxy.example.com:3128.")


class Proxy(Model):
    """Delivered in `tenant-env`, as HTTP_PROXY, HTTPS_PROXY and NO_PROXY, in both forms."""

    http_secret_ref: ProxySecretRef
    no_proxy: Annotated[list[NoProxy], Field(max_length=64)] = Field(
        default=[],
        description="Hosts, domains (with a leading dot: their subdomains) and CIDRs that are reached directly. Names "
        "inside the cluster always are.",
    )


def proxy_or_env() -> Rule:
    """On the parent: no name that the proxy sets is in env or limits too."""
    names = ", ".join(f"'{name}'" for name in PROXY_NAMES)
    return Rule(
        f"!has(self.proxy) || [{names}].all(k, !(has(self.env) && k in self.env) && "
        "!(has(self.limits) && k in self.limits))",
        "proxy sets HTTP_PROXY, HTTPS_PROXY and NO_PROXY, in both cases: take them out of env and limits",
        ".proxy",
    )

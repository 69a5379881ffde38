"""What a tenant's workloads are told of the HTTP proxy that they are to use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

INSIDE: Final = ("localhost", "127.0.0.1", "::1", ".svc", ".cluster.local")
"""Names inside the cluster, and the pod itself: never through a proxy, which can't reach them."""
SCHEMES: Final = ("http", "https")
LONGEST: Final = 2048


def check_url(text: str) -> str:
    """The URL of a proxy as programs understand it: `http://[user:password@]host[:port]`; without the slash at its end.

    Raises:
        ValueError: what is wrong with it, without any part of it.
    """
    url = text.strip()
    if len(url) > LONGEST or not url.isascii() or any(char.isspace() or not char.isprintable() for char in url):
        raise ValueError(f"has characters that no URL has, or more than {LONGEST}")
    parts = urlsplit(url)
    if parts.scheme not in SCHEMES:
        raise ValueError("has to begin with http:// or https://")
    try:
        port = parts.port
    except ValueError:
        raise ValueError("has a port that is none") from None
    if not parts.hostname or port == 0:
        raise ValueError("has to name a host, and a port from 1 to 65535 if any")
    if parts.path not in ("", "/") or parts.query or parts.fragment or "?" in url or "#" in url:
        raise ValueError("can't have a path, a query or a fragment")
    return url.removesuffix("/")


def proxy_env(url: str, no_proxy: Sequence[str], namespace: str) -> dict[str, str]:
    """The variables, each in both forms.

    Args:
        url: Of the proxy, for http and https.
        no_proxy: What else is reached directly.
        namespace: The tenant's, for names such as `app.<namespace>`.
    """
    direct = ",".join(dict.fromkeys([*INSIDE, f".{namespace}", *no_proxy]))
    values = {"HTTP_PROXY": url, "HTTPS_PROXY": url, "NO_PROXY": direct}
    return {**values, **{name.lower(): value for name, value in values.items()}}

"""A person's own kubeconfigs: trusted, possibly several files, of which one context is taken out whole."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

Json = dict[str, Any]

_FILES_OF_CLUSTER: Final = ("certificate-authority",)
_FILES_OF_USER: Final = ("client-certificate", "client-key", "tokenFile")
_LISTS: Final = ("clusters", "users", "contexts")


class ContextError(Exception):
    """The kubeconfig does not have what was asked for; the message says what it has."""


@dataclass(frozen=True, slots=True)
class Context:
    """One context with its cluster and user, paths in them absolute, as a kubeconfig of its own.

    Attributes:
        name: Of the context.
        config: The kubeconfig, with this context and nothing else in it.
    """

    name: str
    config: Json

    @property
    def cluster(self) -> Json:
        """The cluster's fields."""
        cluster: Json = self.config["clusters"][0]["cluster"]
        return cluster

    @property
    def server(self) -> str:
        """The URL of its API server."""
        return str(self.cluster.get("server") or "")

    @property
    def tls_server_name(self) -> str | None:
        """The name that its certificate is for, where that is not the host."""
        return self.cluster.get("tls-server-name") or None

    def authority(self) -> str | None:
        """Its CA certificates, PEM in base64; None if it names none.

        Raises:
            ContextError: if the file can't be read.
        """
        if data := self.cluster.get("certificate-authority-data"):
            return str(data)
        if path := self.cluster.get("certificate-authority"):
            try:
                return base64.b64encode(Path(path).read_bytes()).decode()
            except OSError as error:
                message = f"context {self.name!r}: certificate-authority {path} can't be read: {error.strerror}"
                raise ContextError(message) from None
        return None


def kubeconfig_paths(flag: str | None, environ: Mapping[str, str] = os.environ) -> str | None:
    """Where kubectl would look: the flag, KUBECONFIG, ~/.kube/config if it is there; None if nowhere."""
    home = Path("~/.kube/config").expanduser()
    return flag or environ.get("KUBECONFIG") or (str(home) if home.is_file() else None)


def load_context(paths: str, name: str | None = None) -> Context:
    """One context of a kubeconfig.

    Args:
        paths: One file, or several with colons between them: what is named in two of them is taken from the first.
        name: Of the context; None for the current one.

    Raises:
        ContextError: if there is no such file or context, or it is no kubeconfig.
    """
    files = [Path(path).expanduser() for path in paths.split(os.pathsep) if path]
    there = [file for file in files if file.is_file()]
    if not there:
        raise ContextError(f"there is no kubeconfig at {paths}")
    configs = [_load(file) for file in there]
    wanted = name or next((str(config["current-context"]) for config in configs if config.get("current-context")), None)
    if wanted is None:
        raise ContextError(f"{paths} has no current-context: name one of its contexts: {_names(configs)}")
    context = _find(configs, "contexts", wanted)
    if context is None:
        raise ContextError(f"{paths} has no context {wanted!r}; it has: {_names(configs)}")
    parts = {kind: str((context.get("context") or {}).get(kind) or "") for kind in ("cluster", "user")}
    entries = {kind: _find(configs, f"{kind}s", part) for kind, part in parts.items()}
    for kind, entry in entries.items():
        if entry is None:
            raise ContextError(f"{paths}: context {wanted!r} names the {kind} {parts[kind]!r}, which is not there")
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [entries["cluster"]],
        "users": [entries["user"]],
        "contexts": [context],
        "current-context": wanted,
    }
    return Context(wanted, config)


def _load(file: Path) -> Json:
    try:
        config = yaml.safe_load(file.read_bytes())
    except OSError as error:
        raise ContextError(f"{file} can't be read: {error.strerror}") from None
    except (yaml.YAMLError, ValueError):  # its message would quote the file, credentials and all
        raise ContextError(f"{file} is not YAML") from None
    if config is None:
        return {}
    lists = [config.get(kind) or [] for kind in _LISTS] if isinstance(config, dict) else [None]
    if not all(isinstance(entries, list) and all(isinstance(entry, dict) for entry in entries) for entries in lists):
        raise ContextError(f"{file} is no kubeconfig")
    for entry in config.get("clusters") or ():
        _anchor(entry.get("cluster") or {}, _FILES_OF_CLUSTER, file)
    for entry in config.get("users") or ():
        user = entry.get("user") or {}
        _anchor(user, _FILES_OF_USER, file)
        if os.sep in str((user.get("exec") or {}).get("command") or ""):
            _anchor(user["exec"], ("command",), file)
    return dict(config)


def _anchor(fields: Json, names: tuple[str, ...], file: Path) -> None:
    """A relative path counts from the folder of the file that it is written in."""
    for name in names:
        if fields.get(name):
            fields[name] = str(file.absolute().parent / fields[name])


def _find(configs: list[Json], kind: str, name: str) -> Json | None:
    entries = (entry for config in configs for entry in config.get(kind) or ())
    return next((entry for entry in entries if entry.get("name") == name), None)


def _names(configs: list[Json]) -> str:
    names = [str(entry.get("name")) for config in configs for entry in config.get("contexts") or ()]
    return ", ".join(sorted(set(names))) or "none"

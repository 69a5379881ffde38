"""Argo CD's way of telling an object's health: a script in Lua 5.1, with as few libraries as Argo CD lets it have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from lupa import lua51

LIBRARIES: Final = ("coroutine", "debug", "io", "math", "os", "string", "python")
"""What Argo CD's interpreter lacks while `useOpenLibs` is not set; it has the basic functions, and `table`."""


@dataclass(frozen=True, slots=True)
class Health:
    """What Argo CD shows."""

    status: str
    message: str


def health_of(script: str, body: Mapping[str, Any]) -> Health:
    """The health that a script tells of an object.

    Raises:
        lupa.LuaError: the script fails; Argo CD shows the health as Unknown.
    """
    lua = lua51.LuaRuntime(register_eval=False, register_builtins=False)
    variables = lua.globals()
    for name in LIBRARIES:
        variables[name] = None
    variables.obj = _table(lua, body)
    told = lua.execute(script)
    return Health(told["status"], told["message"])


def _table(lua: lua51.LuaRuntime, value: Any) -> Any:
    """A JSON value as Argo CD hands it over: null is absent, all numbers are of one type."""
    if isinstance(value, Mapping):
        return lua.table_from({key: _table(lua, each) for key, each in value.items() if each is not None})
    if isinstance(value, list):
        return lua.table_from([_table(lua, each) for each in value])
    return value

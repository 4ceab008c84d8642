"""Settings as the environment and files hold them, before anybody has looked whether they make sense."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from target_salesloft.config.schema import ENVIRONMENT_PREFIX
from target_salesloft.exceptions import ConfigError
from target_salesloft.suggestions import closest_match

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

# What people write for truth values, the SDK's words among them.
TRUTH: Final = MappingProxyType(
    {"true": True, "1": True, "yes": True, "on": True} | dict.fromkeys(("false", "0", "no", "off"), False)
)
# Meltano's way of writing a key of a key; a dot with a backslash is one of the name.
DOT: Final = re.compile(r"(?<!\\)\.")


def read_environment(properties: Mapping[str, Any]) -> dict[str, Any]:
    """Read settings from the environment.

    One that cannot be read is returned as it is, so that `settings_faults` names it. The SDK's own way names none,
    takes any word that it does not know for false, and has a `.env` of some directory win over the environment.

    Args:
        properties: Name → JSON schema, of the settings to look for.
    """
    found: dict[str, Any] = {
        name: _value(os.environ[ENVIRONMENT_PREFIX + name.upper()], schema.get("type") or ())
        for name, schema in properties.items()
        if ENVIRONMENT_PREFIX + name.upper() in os.environ
    }
    if isinstance(found.get("streams"), dict):
        found["streams"] = _nested(found["streams"])
    return found


def unknown_env_vars(properties: Iterable[str]) -> dict[str, str]:
    """Return what the environment holds under names that are almost those of settings, for `settings_faults` to name.

    Args:
        properties: The names of all settings.
    """
    names = {
        name: name.removeprefix(ENVIRONMENT_PREFIX).lower()
        for name in os.environ
        if name.startswith(ENVIRONMENT_PREFIX)
    }
    # Meltano hands on the parts of a setting that is an object too.
    known = {name for name in names.values() if any(name == each or name.startswith(f"{each}_") for each in properties)}
    return {
        name: os.environ[variable]
        for variable, name in names.items()
        if name not in known and closest_match(name, properties)
    }


def _value(text: str, types: str | Sequence[str]) -> Any:
    """Return the value that a text stands for, or the text where it is none of these types."""
    if "string" in types:
        return text
    if "boolean" in types:
        return TRUTH.get(text.strip().lower(), text)
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _nested(streams: dict[str, Any]) -> dict[str, Any]:
    """Return `streams` as it stands in `meltano.yml`: Meltano hands `people.mapping.job: title` to its commands."""
    nested: dict[str, Any] = {}
    for path, value in streams.items():
        *outer, last = [path] if isinstance(value, dict) else [name.replace("\\.", ".") for name in DOT.split(path)]
        inner = nested
        for name in outer:
            inner = inner.setdefault(name, {})
            if not isinstance(inner, dict):
                return streams
        inner[last] = value
    return nested


def read_file(path: str) -> dict[str, Any]:
    """Read settings from a file of JSON.

    Raises:
        ConfigError: It cannot be read.
    """
    try:
        config = json.loads(Path(path).read_text(encoding="utf-8"), parse_constant=_refuse)
    except OSError as error:
        raise ConfigError(f"--config {path} cannot be read: {error.strerror}.") from error
    except RecursionError as error:
        raise ConfigError(f"--config {path} cannot be read: it is nested too deeply.") from error
    except ValueError as error:
        raise ConfigError(f"--config {path} cannot be read: it is not JSON ({error}).") from error
    if not isinstance(config, dict):
        raise ConfigError(f"--config {path} is not a JSON object of settings.")
    return config


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is none of its numbers")

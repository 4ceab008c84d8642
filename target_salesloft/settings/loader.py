"""Loads settings from files and environment variables."""

from __future__ import annotations

import copy
import json
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from target_salesloft.exceptions import INVALID_SETTINGS, UNREAD_VARIABLE, ConfigError
from target_salesloft.settings.options import ENVIRONMENT_PREFIX
from target_salesloft.settings.run import RunSettings
from target_salesloft.settings.schema import SETTINGS, leaves
from target_salesloft.settings.validation import resolve
from target_salesloft.suggestions import TYPO, closest_match, normalize_name

BOOLEANS: Final = dict.fromkeys(("true", "1", "yes", "on"), True) | dict.fromkeys(("false", "0", "no", "off"), False)
# Meltano separates levels of a setting with dots, and escapes dots in names with a backslash.
SEPARATOR: Final = re.compile(r"(?<!\\)\.")
# The SDK reads the first of these that is set.
LOG_LEVEL_VARIABLES: Final = (f"{ENVIRONMENT_PREFIX}LOGLEVEL", "LOGLEVEL")


@dataclass(frozen=True)
class ConfigSources:
    """The sources of a command's settings. Later files override earlier ones, and the environment overrides all files.

    A file is a path, or settings that were already read. Nothing is read until `load` is called.
    """

    files: tuple[str | Mapping[str, Any], ...] = ()
    environment: bool = False

    @classmethod
    def from_options(cls, options: Iterable[str]) -> ConfigSources:
        """Return the sources for the values of `--config`: paths, or ENV for the environment."""
        options = tuple(options)
        return cls(tuple(path for path in options if path != "ENV"), "ENV" in options)


def load(sources: ConfigSources, environ: Mapping[str, str], warn: Callable[[str], None]) -> RunSettings:
    """Return the validated settings: files first, then environment variables, then defaults.

    Variables that are set but not read cause errors if the settings are invalid, or if they ask for a dry run or
    `max_records`; otherwise warnings. Meltano passes every setting in a file and as a variable, so equal values are not
    reported.
    """
    values = read(sources, environ)
    found = _variables(environ, SETTINGS["properties"])
    try:
        settings = resolve(values)
    except ConfigError as error:
        unread = [] if sources.environment else _unread_variables(environ, found, values)
        raise ConfigError(codes={**error.codes, **dict.fromkeys(unread, UNREAD_VARIABLE)}) from error
    errors = dict.fromkeys(_safeguard_errors(environ, settings), UNREAD_VARIABLE)
    if environ.get("MELTANO_PROJECT_ROOT") and not sources.environment:
        errors |= dict.fromkeys(_dropped_nulls(found), INVALID_SETTINGS)
    if errors:
        raise ConfigError(codes=errors)
    config = settings.to_config()
    for message in _unknown_variables(environ) if sources.environment else _unread_variables(environ, found, config):
        warn(message)
    return settings


def check_log_level(environ: Mapping[str, str]) -> None:
    """Raise a `ConfigError` for an unknown log level, for which the SDK would show a traceback."""
    name = next((name for name in LOG_LEVEL_VARIABLES if environ.get(name)), None)
    if name and not isinstance(logging.getLevelName(environ[name].upper()), int):
        raise ConfigError(
            f"Invalid value for {name}: {environ[name]!r} (expected one of: DEBUG, INFO, WARNING, ERROR, CRITICAL)."
        )


def read(
    sources: ConfigSources, environ: Mapping[str, str], names: Iterable[str] = SETTINGS["properties"]
) -> dict[str, Any]:
    """Return settings without validation: files first, then environment variables.

    Each file is read once, so it may be a pipe. The arguments are not modified.
    """
    values: dict[str, Any] = {}
    for file in sources.files:
        # Null and empty text mean that a setting is not set.
        settings = read_file(file) if isinstance(file, str) else file
        values |= {name: value for name, value in settings.items() if value is not None and value != ""}
    if sources.environment:
        values = copy.deepcopy(values)
        for name, value in _variables(environ, names).items():
            _set(values, name.split("."), value)
    return values


def read_file(path: str) -> dict[str, Any]:
    try:
        config = json.loads(Path(path).read_text(encoding="utf-8-sig"), parse_constant=_reject_constant)
    except OSError as error:
        raise ConfigError(f"Cannot read --config {path}: {error.strerror}.") from error
    except RecursionError as error:
        raise ConfigError(f"Cannot read --config {path}: nested too deeply.") from error
    except ValueError as error:
        raise ConfigError(f"Cannot read --config {path}: not valid JSON ({error}).") from error
    if not isinstance(config, dict):
        raise ConfigError(f"Cannot read --config {path}: not a JSON object of settings.")
    return config


def variable(name: str) -> str:
    return ENVIRONMENT_PREFIX + name.upper().replace(".", "_")


def _variables(environ: Mapping[str, str], names: Iterable[str]) -> dict[str, Any]:
    """Return setting → value of each variable that is not empty. Settings inside objects have variables too.

    Values that can't be parsed are returned as text, so that validation reports them. The SDK's parser is not used: it
    takes any unknown word for false, and reads a `.env` file in a parent directory.
    """
    properties = {name: SETTINGS["properties"][name] for name in names}
    found = {
        name: _parse(environ[variable(name)], schema.get("type") or ())
        for name, schema in (properties | dict(leaves(properties))).items()
        if environ.get(variable(name))
    }
    if isinstance(found.get("streams"), dict):
        found["streams"] = _unflatten(found["streams"])
    return found


def _set(values: dict[str, Any], path: Sequence[str], value: Any) -> bool:
    """Set a value inside objects, and return False if that is impossible. Validation reports the cause."""
    *outer, last = path
    inner: Any = values
    for name in outer:
        inner = inner.setdefault(name, {})
        if not isinstance(inner, dict):
            return False
    inner[last] = value
    return True


def _parse(text: str, types: str | Sequence[str]) -> Any:
    """Return the value of a text, or the text itself if it has none of these types."""
    if "string" in types:
        return text
    if "boolean" in types:
        return BOOLEANS.get(text.strip().lower(), text)
    try:
        value = json.loads(text, parse_constant=_reject_constant)
    except (ValueError, RecursionError):
        return text
    return text if value is None else value


def _reject_constant(constant: str) -> None:
    raise ValueError(f"{constant} is not a JSON number")


def _unflatten(setting: dict[str, Any]) -> dict[str, Any]:
    """Return a nested object as in `meltano.yml`. In variables, Meltano passes `people.mapping.job: title`."""
    nested: dict[str, Any] = {}
    for path, value in setting.items():
        is_nested = isinstance(value, dict)
        names = [path] if is_nested else [name.replace("\\.", ".") for name in SEPARATOR.split(path)]
        if not _set(nested, names, value):
            return setting
    return nested


def _our_variables(environ: Mapping[str, str]) -> dict[str, str]:
    return {
        name.removeprefix(ENVIRONMENT_PREFIX).lower(): value
        for name, value in environ.items()
        if name.startswith(ENVIRONMENT_PREFIX) and value
    }


def _unknown_variables(environ: Mapping[str, str]) -> list[str]:
    """Return a warning for each variable that resembles a setting. Others may belong to another program."""
    messages = []
    for name in _our_variables(environ):
        # Meltano also sets a variable for each part of a setting that is an object.
        is_known = any(name == known or name.startswith(f"{known}_") for known in SETTINGS["properties"])
        match = None if is_known else closest_match(name, SETTINGS["properties"], TYPO)
        if match:
            messages.append(f"Ignoring {variable(name)}: unknown setting. Did you mean {variable(match)}?")
    return messages


def _unread_variables(environ: Mapping[str, str], variables: Mapping[str, Any], config: Mapping[str, Any]) -> list[str]:
    """Return a message for each variable whose value differs from the settings."""
    advice = "Add --config ENV to read environment variables."
    if environ.get("MELTANO_PROJECT_ROOT"):
        advice = "In meltano.yml, add the setting to the settings of the loader (- name: {name}), or to its config."
    return [
        f"{variable(name)} is set but not read. {advice.format(name=name)}"
        for name, value in variables.items()
        if not _is_set(config, name, value)
    ]


def _is_set(config: Mapping[str, Any], name: str, value: Any) -> bool:
    current: Any = config
    for each in name.split("."):
        current = current.get(each) if isinstance(current, dict) else None
    if isinstance(value, dict) and _without_nulls(_unflatten(value)) == _without_nulls(current or {}):
        return True
    return bool(current == value) or str(current) == str(value)


def _without_nulls(value: Any) -> Any:
    """Return an object without nulls and empty objects, like Meltano's files."""
    if not isinstance(value, dict):
        return value
    inner = {name: _without_nulls(each) for name, each in value.items()}
    return {name: each for name, each in inner.items() if each is not None and each != {}}


def _dropped_nulls(variables: Mapping[str, Any]) -> list[str]:
    """Return an error for each null that leaves out columns, and that Meltano passes in a variable only."""
    return [
        f"Meltano drops the null of {'.'.join(path)}, so that columns would be sent. Write __NULL__ instead."
        for name in ("streams", "stream_maps")
        if isinstance(value := variables.get(name), dict)
        for path in _null_paths(_unflatten(value), name)
        if name == "stream_maps" or "mapping" in path
    ]


def _null_paths(value: Mapping[str, Any], *outer: str) -> Iterator[tuple[str, ...]]:
    for name, each in value.items():
        if isinstance(each, dict):
            yield from _null_paths(each, *outer, name)
        elif each is None:
            yield *outer, name


def _safeguard_errors(environ: Mapping[str, str], settings: RunSettings) -> list[str]:
    """Return an error if a variable asks for a limited run that will not be, for example DRYRUN or without ENV."""
    option = "" if environ.get("MELTANO_PROJECT_ROOT") else " with --config ENV"  # Meltano passes it in a file
    return [
        f"{variable(name)} is set but not read, and this run would write everything. "
        f"Use {variable(setting)}{option}, or unset the variable."
        for setting in ("dry_run", "max_records")
        if not getattr(settings, setting)
        for name, value in _our_variables(environ).items()
        if normalize_name(name) == normalize_name(setting) and _parse(value, "boolean") is not False
    ]

"""Validates settings, and fills in defaults. Messages contain no secrets."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import jsonschema.validators
import msgspec
from jsonschema.exceptions import best_match
from singer_sdk.typing import DEFAULT_JSONSCHEMA_VALIDATOR

from target_salesloft.exceptions import (
    CONFLICTING_SETTINGS,
    INVALID_SETTINGS,
    MISSING_CREDENTIALS,
    UNKNOWN_SETTING,
    ConfigError,
)
from target_salesloft.redaction import iter_scalars, redact_secrets, sanitize_line
from target_salesloft.settings.options import CREDENTIALS, ENVIRONMENT_PREFIX, NO_LEDGER
from target_salesloft.settings.run import RunSettings
from target_salesloft.settings.schema import FOREIGN_SETTINGS, SETTINGS, STREAM_SETTINGS
from target_salesloft.storage import is_remote, split
from target_salesloft.suggestions import closest_match
from target_salesloft.urls import is_loopback

if TYPE_CHECKING:
    from jsonschema import ValidationError

TYPE_NAMES: Final = {
    "string": "a string",
    "integer": "an integer",
    "number": "a number",
    "boolean": "true or false",
    "object": "an object",
    "array": "a list",
    "null": "null",
}
# The credentials that each method requires. refresh_token is optional, because `login` may have stored one.
CREDENTIALS_OF_METHOD: Final = {
    "api_key": ("api_key",),
    "client_credentials": ("client_id", "client_secret"),
    "refresh_token": ("client_id", "client_secret"),
}
# JSON Schema would accept 8.0 as an integer.
VALIDATOR: Final = jsonschema.validators.extend(  # type: ignore[no-untyped-call]
    DEFAULT_JSONSCHEMA_VALIDATOR,
    type_checker=DEFAULT_JSONSCHEMA_VALIDATOR.TYPE_CHECKER.redefine(
        "integer", lambda _, value: isinstance(value, int) and not isinstance(value, bool)
    ),
)(SETTINGS)
# Up to the last @, because a password may contain a slash.
USER_INFO: Final = re.compile(r"^([a-z][a-z0-9+.-]*://)?.*@", re.IGNORECASE | re.DOTALL)
QUERY: Final = re.compile(r"[?#].*", re.DOTALL)
NUMBERS: Final = tuple(name for name, each in SETTINGS["properties"].items() if "number" in each.get("type", ()))
MAX_VALUE_LENGTH: Final = 100
MIN_SECRET_LENGTH: Final = 4


def resolve(values: Mapping[str, Any]) -> RunSettings:
    """Return validated settings with defaults. The argument is not modified.

    Null and empty text mean that a setting is not set.
    """
    config = {name: _clean(name, value) for name, value in values.items() if value is not None and value != ""}
    secrets = _secrets(config)
    errors = dict.fromkeys(_unknown_settings(config), UNKNOWN_SETTING) | _schema_errors(config, secrets)
    if not errors:
        settings = msgspec.convert(config, RunSettings)
        invalid = [*_credential_errors(settings), *_url_errors(settings, secrets), *_path_errors(settings, secrets)]
        errors = (
            dict.fromkeys(invalid, INVALID_SETTINGS)
            | dict.fromkeys(_missing_credentials(settings), MISSING_CREDENTIALS)
            | dict.fromkeys(_conflicts(settings), CONFLICTING_SETTINGS)
        )
    if errors:
        raise ConfigError(codes={redact_secrets(error, *secrets): code for error, code in errors.items()})
    return settings


def _clean(name: str, value: Any) -> Any:
    """Convert text to a number where required, because Meltano passes text, and trim credentials."""
    if not isinstance(value, str):
        return value
    if name in CREDENTIALS:
        return value.strip()
    if name in NUMBERS:
        with suppress(ValueError):
            return number if math.isfinite(number := float(value)) else value
    return value


def _unknown_settings(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield an error for each unknown setting, which would have no effect."""
    known = SETTINGS["properties"]
    for name in config:
        if name in known or name in FOREIGN_SETTINGS or name.startswith("_"):  # Meltano's extras
            continue
        if name in STREAM_SETTINGS:
            yield f"{name} can only be set per stream: streams.NAME.{name}."
        else:
            yield _unknown_setting(name, closest_match(name, known))


def _unknown_setting(name: str, match: str | None) -> str:
    return f"Unknown setting '{_name([name])}'." + (f" Did you mean '{match}'?" if match else "")


def _schema_errors(config: Mapping[str, Any], secrets: list[str]) -> dict[str, str]:
    """Return error → code for each value that the schema does not allow."""
    errors = {}
    for error in VALIDATOR.iter_errors(config):
        deepest: Any = best_match([error])
        path = list(deepest.absolute_path)
        if deepest.validator == "type" and "enum" in deepest.schema:
            continue  # another error lists the values
        if deepest.validator == "additionalProperties":
            for name in deepest.instance:
                if name not in deepest.schema["properties"]:
                    match = closest_match(name, deepest.schema["properties"])
                    unknown = _unknown_setting(_name([*path, name]), match and _name([*path, match]))
                    errors[unknown + _dot_advice(path, deepest.instance[name])] = UNKNOWN_SETTING
            continue
        value = _format_value(deepest.instance, secrets)
        if SETTINGS["properties"][path[0]].get("secret"):
            value = ""
        message = _invalid_value(_name(path), value, _expected(deepest)) + _dot_advice(path, deepest.instance)
        errors[message] = INVALID_SETTINGS
    return errors


def _dot_advice(path: list[Any], value: Any) -> str:
    """Return advice for an unexpected object in the settings of a stream. Meltano splits names at dots."""
    is_split = path[:1] == ["streams"] and len(path) > 1 and isinstance(value, dict)
    return r" If the name of a stream or column has a dot, write it as \. in meltano.yml." if is_split else ""


def _expected(error: ValidationError) -> str:
    allowed: Any = error.validator_value
    if error.validator in {"anyOf", "oneOf"}:
        return " or ".join(_expected(each) for each in error.context or ())
    if error.validator == "type":
        # Null means that a setting is not set, except in a mapping.
        kinds = [allowed] if isinstance(allowed, str) else allowed
        optional = "null" if "mapping" not in error.absolute_path and len(kinds) > 1 else ""
        return " or ".join(TYPE_NAMES[each] for each in kinds if each != optional)
    if error.validator == "enum":
        return f"one of: {', '.join('null' if each is None else str(each) for each in allowed)}"
    if error.validator == "minLength":
        return "text that is not empty"
    if error.validator in {"minimum", "maximum"}:
        return f"{allowed:,} or {'more' if error.validator == 'minimum' else 'less'}"
    return "__NULL__" if error.validator == "const" else str(error.validator)


def _format_value(value: Any, secrets: list[str]) -> str:
    """Return a value without secrets; empty for objects, lists, and text that looks like one."""
    if isinstance(value, str):
        # Redact before truncating and quoting, so that no part of a secret remains.
        text = redact_secrets(value, *secrets)[:MAX_VALUE_LENGTH]
        return "" if value.lstrip()[:1] in {"{", "["} else repr(text)
    return "" if isinstance(value, (dict, list)) else json.dumps(value)


def _invalid_value(name: str, value: str, expected: str) -> str:
    return f"Invalid value for {name}{value and ': '}{value} (expected {expected})."


def _name(path: list[Any]) -> str:
    return sanitize_line(".".join(map(str, path)))


def _secrets(config: Mapping[str, Any]) -> list[str]:
    """Return the values of all secret settings, except short ones, which may be part of any word."""
    return [
        value
        for name, schema in SETTINGS["properties"].items()
        if schema.get("secret")
        for value in iter_scalars(config.get(name))
        if len(value) >= MIN_SECRET_LENGTH
    ]


def _credential_errors(settings: RunSettings) -> Iterator[str]:
    for name, value in settings.credentials.items():
        if not value:
            yield _invalid_value(name, "", "a value that is not blank")
        elif not value.isascii() or not value.isprintable():
            yield _invalid_value(name, "", "printable ASCII characters")


def _missing_credentials(settings: RunSettings) -> Iterator[str]:
    configured, method = settings.credentials, settings.authentication
    if settings.dry_run and not settings.compare and not configured:
        return
    if method is None:
        yield f"No credentials. Set api_key ({ENVIRONMENT_PREFIX}API_KEY), or client_id and client_secret for OAuth."
        return
    required = CREDENTIALS_OF_METHOD[method]
    for name in required:
        if name not in configured:
            yield f"Missing setting {name}: {_describe_method(settings)} requires {' and '.join(required)}."


def _describe_method(settings: RunSettings) -> str:
    method = settings.authentication
    return f"auth_method {method}{'' if settings.auth_method else ' (inferred)'}"


def _path_errors(settings: RunSettings, secrets: list[str]) -> Iterator[str]:
    for name in ("summary_path", "results_path"):
        path = getattr(settings, name)
        if path is not None and not _names_a_file(path):
            yield _invalid_value(
                name, _format_value(path, secrets), "a file; standard output is for state, and not a device"
            )
    for name in ("failed_records_dir", "token_path", "summary_path", "results_path"):
        path = getattr(settings, name) or ""
        if not path.isprintable():
            yield _invalid_value(name, "", "a path without control characters")
        try:
            Path(path).expanduser()
            if is_remote(path) and ":" in urlsplit(path).netloc.rpartition("@")[0]:
                yield _invalid_value(name, "", "a URL without a password; the package of the store finds credentials")
        except RuntimeError:
            yield f"Invalid value for {name}: {_format_value(path, secrets)} (unknown user)."
        except ValueError:  # such as an unclosed bracket
            yield _invalid_value(name, "", "a path or a valid URL")


def _names_a_file(path: str) -> bool:
    try:
        split(path)
    except ValueError:
        return False
    return not path.startswith(("/dev/", "/proc/"))


def _conflicts(settings: RunSettings) -> Iterator[str]:
    """Yield an error for each setting that another one makes ineffective, or that requires another one."""
    method = settings.authentication
    if method is not None:
        used = {*CREDENTIALS_OF_METHOD[method], *(["refresh_token"] if method == "refresh_token" else [])}
        if unused := ", ".join(name for name in settings.credentials if name not in used):
            shown = _describe_method(settings)
            yield f"Conflicting credentials: {shown} does not use {unused}. Remove one or the other."
    if settings.compare and not settings.dry_run:
        yield "compare requires dry_run: it reports what a real run would change. Set dry_run, or remove compare."
    if settings.ledger_uri != NO_LEDGER:
        return
    needs = ["retry_failed_records"] if settings.retry_failed_records else []
    if settings.skip_unchanged == "ledger":
        needs.append("skip_unchanged: ledger")
    for stream, own in settings.streams.items():
        if own.get("skip_unchanged") == "ledger":
            needs.append(f"{_name(['streams', stream, 'skip_unchanged'])}: ledger")
        for field, value in (own.get("overwrite") or {}).items():
            if value == "unless_edited":
                needs.append(f"{_name(['streams', stream, 'overwrite', field])}: unless_edited")
    for each in needs:
        yield f"{each} requires the ledger: remove ledger_uri, or set it to a database."


def _url_errors(settings: RunSettings, secrets: list[str]) -> Iterator[str]:
    for name in ("api_url", "auth_url"):
        url = getattr(settings, name)
        try:
            parts = urlsplit(url)
            host = parts.hostname
            _ = parts.port
        except ValueError:
            host = None
        if not host or parts.scheme not in {"http", "https"}:
            expected = f"a URL such as {SETTINGS['properties'][name]['default']}"
        elif parts.scheme == "http" and not is_loopback(host):
            expected = "https://, because credentials would be sent unencrypted; http:// only to localhost"
        else:
            continue
        yield _invalid_value(name, _format_value(QUERY.sub("", USER_INFO.sub(r"\1***@", url)), secrets), expected)

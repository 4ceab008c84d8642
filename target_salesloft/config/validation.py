"""What is wrong with the settings, in our own words: the SDK's hold the values of secrets."""

from __future__ import annotations

import copy
import ipaddress
import re
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from singer_sdk.typing import DEFAULT_JSONSCHEMA_VALIDATOR

from target_salesloft.config.schema import (
    CREDENTIALS,
    ENVIRONMENT_PREFIX,
    FOREIGN_SETTINGS,
    SETTINGS,
    AuthMethod,
    get_auth_method,
)
from target_salesloft.exceptions import ConfigError
from target_salesloft.suggestions import closest_match, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jsonschema import ValidationError

WORDS: Final = MappingProxyType(
    {
        "string": "text",
        "integer": "a whole number",
        "number": "a number",
        "boolean": "true or false",
        "object": "an object",
        "array": "a list",
        "null": "null",
    }
)
# The credentials that each method requires; refresh_token is optional, because `login` can have stored one.
CREDENTIALS_OF_METHOD: Final = MappingProxyType(
    {
        AuthMethod.API_KEY: ("api_key",),
        AuthMethod.CLIENT_CREDENTIALS: ("client_id", "client_secret"),
        AuthMethod.REFRESH_TOKEN: ("client_id", "client_secret"),
    }
)
VALIDATOR: Final = DEFAULT_JSONSCHEMA_VALIDATOR(SETTINGS)
PASSWORD: Final = re.compile(r"//[^/]*@")


def resolve(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return validated settings with defaults filled in; the argument is not modified.

    Null and empty text mean that a setting is not set.

    Args:
        values: The settings as they are written.

    Raises:
        ConfigError: Settings are unknown or invalid. No message contains a secret.
    """
    config = {name: schema["default"] for name, schema in SETTINGS["properties"].items() if "default" in schema}
    config |= {name: value for name, value in values.items() if value is not None and value != ""}
    config = copy.deepcopy(config)
    found = [
        *unknown_settings(config, SETTINGS),
        *(format_schema_error(each, SETTINGS) for each in VALIDATOR.iter_errors(config)),
    ]
    found = found or [*_authentication_errors(config), *_url_errors(config), *_path_errors(config)]
    if found:
        raise ConfigError(*found)
    return config


def format_schema_error(error: ValidationError, schema: dict[str, Any]) -> str:
    """Return one line for a schema error, without the values of secrets."""
    instance: Any = error.instance
    path = [str(part) for part in error.absolute_path]
    name = ".".join(path) or "the settings"
    allowed: Any = error.validator_value
    if error.validator == "type":
        kinds = [allowed] if isinstance(allowed, str) else allowed
        # Null is a setting that is left out; in a mapping it means something.
        allowed = " or ".join(WORDS[each] for each in kinds if each != "null" or "mapping" in path)
    if path and schema["properties"].get(path[0], {}).get("secret"):
        return f"{name} is not what it should be. Allowed: {allowed}."
    if error.validator == "enum":
        return f"{name} is {error.instance!r}. Allowed: {', '.join(str(each) for each in allowed)}."
    if error.validator == "type":
        return f"{name} is {error.instance!r}. Allowed: {allowed}."
    if error.validator in {"minimum", "maximum"}:
        bound = "more" if error.validator == "minimum" else "less"
        return f"{name} is {error.instance!r}. Allowed: {allowed:,} or {bound}."
    if error.validator == "additionalProperties":
        known = schema["properties"]["streams"]["additionalProperties"]["properties"]
        unknown = next(each for each in instance if each not in known)
        return f"{name}.{unknown} is no setting{did_you_mean(unknown, known)}. Allowed: {', '.join(known)}."
    return f"{name}: {error.message}."


def unknown_settings(config: Mapping[str, Any], schema: Mapping[str, Any]) -> list[str]:
    """Refuse what is almost a setting: it would do nothing, and nobody would know. Others may be another program's."""
    known = schema["properties"]
    of_streams = known["streams"]["additionalProperties"]["properties"]
    found = []
    for name in [name for name in config if name not in known and name not in FOREIGN_SETTINGS]:
        if name in of_streams:
            found.append(f"{name} is a setting of single streams: streams.NAME.{name}.")
        elif near := closest_match(name, known):
            found.append(f"{name} is no setting (did you mean '{near}'?).")
    return found


def _authentication_errors(config: dict[str, Any]) -> list[str]:
    """Return what is missing or contradictory for one authentication method; credentials are stripped in place."""
    found = []
    for name in [name for name in CREDENTIALS if name in config]:
        config[name] = config[name].strip()
        if not config[name]:
            found.append(f"{name} holds nothing but spaces.")
        elif not config[name].isascii() or not config[name].isprintable():
            found.append(f"{name} holds a character that no {name.rpartition('_')[2]} has.")
    method = get_auth_method(config)
    configured = [name for name in CREDENTIALS if name in config]
    if config["dry_run"] and not configured:
        return found
    if method is None:
        found.append(
            f"No credentials. Set api_key ({ENVIRONMENT_PREFIX}API_KEY), or client_id and client_secret for OAuth."
        )
        return found
    required = CREDENTIALS_OF_METHOD[method]
    optional = ("refresh_token",) if method is AuthMethod.REFRESH_TOKEN else ()
    shown = f"auth_method {method.value}{'' if config.get('auth_method') else ' (inferred)'}"
    found += [
        f"Missing setting {name}: {shown} requires {' and '.join(required)}." for name in required if name not in config
    ]
    unused = [name for name in configured if name not in (*required, *optional)]
    if unused:
        found.append(f"Conflicting credentials: {shown} does not use {', '.join(unused)}. Remove one or the other.")
    return found


def _path_errors(config: Mapping[str, Any]) -> list[str]:
    found = []
    for name in ("failed_records_dir", "token_path"):
        path = config.get(name, "")
        if not path.isprintable():
            found.append(f"{name} holds a character that no path has.")
        try:
            Path(path).expanduser()
        except RuntimeError:
            found.append(f"{name} is {path!r}, and this machine knows no such user.")
    return found


def _url_errors(config: Mapping[str, Any]) -> list[str]:
    return [fault for name in ("api_url", "auth_url") for fault in _url_error(name, config[name])]


def _url_error(name: str, url: str) -> list[str]:
    shown = PASSWORD.sub("//***@", url)
    try:
        parts = urlsplit(url)
        host = parts.hostname
        _ = parts.port
    except ValueError:
        host = None
    if not host or parts.scheme not in {"http", "https"}:
        example = SETTINGS["properties"][name]["default"]
        return [f"{name} is {shown!r}. Allowed: an address such as {example}."]
    if parts.scheme == "http" and not is_loopback(host):
        return [
            f"{name} is {shown!r}: the token would travel in the clear. Allowed: https://, or http:// to this machine."
        ]
    return []


def is_loopback(host: str) -> bool:
    """Return whether a host name or IP address is this machine's loopback interface."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

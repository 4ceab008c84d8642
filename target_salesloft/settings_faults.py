"""What is wrong with the settings, in our own words: the SDK's hold the values of secrets."""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from singer_sdk.plugin_base import JSONSchemaValidator

from target_salesloft.errors import InvalidSetting
from target_salesloft.settings import CREDENTIALS, ENVIRONMENT_PREFIX, OAUTH, SETTINGS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jsonschema import ValidationError

PASSWORD: Final = re.compile(r"//[^/]*@")


def faults(config: dict[str, Any], schema: dict[str, Any]) -> list[str]:
    """Fill in the defaults, and say what is wrong: one line per fault, none with a secret's value.

    Args:
        config: The settings; missing ones are set to their defaults here.
        schema: What is allowed.
    """
    for name in [name for name, value in config.items() if value is None or value == ""]:
        del config[name]
    found = [_fault(error, schema) for error in JSONSchemaValidator(schema).iter_errors(config)]
    return found or [*_authentication_faults(config), *_url_faults(config), *_path_faults(config)]


def refuse_faults(config: dict[str, Any]) -> None:
    """Fill in the defaults, and refuse settings that make no sense.

    Raises:
        InvalidSetting: They make none.
    """
    found = faults(config, SETTINGS)
    if found:
        raise InvalidSetting(*found)


def _fault(error: ValidationError, schema: dict[str, Any]) -> str:
    path = [str(part) for part in error.absolute_path]
    name = ".".join(path) or "the settings"
    allowed: Any = error.validator_value
    if error.validator == "type" and not isinstance(allowed, str):
        allowed = " or ".join(allowed)
    if path and schema["properties"].get(path[0], {}).get("secret"):
        return f"{name} is not what it should be. Allowed: {allowed}."
    if error.validator == "enum":
        return f"{name} is {error.instance!r}. Allowed: {', '.join(str(each) for each in allowed)}."
    if error.validator == "type":
        return f"{name} is {error.instance!r}. Allowed: {allowed}."
    if error.validator in {"minimum", "maximum"}:
        return f"{name} is {error.instance!r}. Allowed: {error.validator} {allowed}."
    if error.validator == "additionalProperties":
        known = schema["properties"]["streams"]["additionalProperties"]["properties"]
        return f"{name} has keys that do not exist. Allowed: {', '.join(known)}."
    return f"{name}: {error.message}."


def _authentication_faults(config: dict[str, Any]) -> list[str]:
    """Say what keeps the settings from being exactly one way of authenticating."""
    found = []
    for name in [name for name in CREDENTIALS if name in config]:
        config[name] = config[name].strip()
        if not config[name]:
            found.append(f"{name} holds nothing but spaces.")
        elif not config[name].isascii() or not config[name].isprintable():
            found.append(f"{name} holds a character that no {name.rpartition('_')[2]} has.")
    of_oauth = [name for name in OAUTH if name in config]
    if "api_key" in config and of_oauth:
        found.append(
            f"api_key and {' and '.join(of_oauth)} are two ways of authenticating. Keep api_key alone, or client_id "
            "and client_secret, with refresh_token where a user has authorized the application."
        )
    elif of_oauth:
        found += [
            f"{of_oauth[0]} is set, but {name} is not. OAuth needs client_id and client_secret, and refresh_token "
            "where a user has authorized the application."
            for name in ("client_id", "client_secret")
            if name not in config
        ]
    elif "api_key" not in config and not config["dry_run"]:
        found.append(
            f"api_key is not set. Put a Salesloft API key into api_key, or into {ENVIRONMENT_PREFIX}API_KEY; or, for "
            "OAuth, set client_id and client_secret, with refresh_token where a user has authorized the application."
        )
    return found


def _path_faults(config: Mapping[str, Any]) -> list[str]:
    return [
        f"{name} holds a character that no path has."
        for name in ("failed_records_dir", "token_path")
        if not config.get(name, "").isprintable()
    ]


def _url_faults(config: Mapping[str, Any]) -> list[str]:
    return [fault for name in ("api_url", "auth_url") for fault in _url_fault(name, config[name])]


def _url_fault(name: str, url: str) -> list[str]:
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
    if parts.scheme == "http" and not _is_loopback(host):
        return [
            f"{name} is {shown!r}: the token would travel in the clear. Allowed: https://, or http:// to this machine."
        ]
    return []


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

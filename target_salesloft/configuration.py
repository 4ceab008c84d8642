"""Settings as the environment and files hold them, before anybody has looked whether they make sense."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from singer_sdk.configuration._dict_config import parse_environment_config

from target_salesloft.errors import InvalidSetting
from target_salesloft.settings import ENVIRONMENT_PREFIX

if TYPE_CHECKING:
    from collections.abc import Mapping


def read_environment(properties: Mapping[str, Any]) -> dict[str, Any]:
    """Read settings from the environment.

    One that cannot be read is returned as it is, so that `settings_faults` names it; the SDK's own way names none.

    Args:
        properties: Name → JSON schema, of the settings to look for.
    """
    found: dict[str, Any] = {}
    for name, schema in properties.items():
        try:
            found |= parse_environment_config({"properties": {name: schema}}, ENVIRONMENT_PREFIX)
        except ValueError:
            found[name] = os.environ[ENVIRONMENT_PREFIX + name.upper()]
    return found


def read_file(path: str) -> dict[str, Any]:
    """Read settings from a file of JSON.

    Raises:
        InvalidSetting: It cannot be read.
    """
    try:
        config = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidSetting(f"--config {path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise InvalidSetting(f"--config {path} cannot be read: it is not JSON ({error}).") from error
    if not isinstance(config, dict):
        raise InvalidSetting(f"--config {path} is not a JSON object of settings.")
    return config

"""Resolves the setting `overwrite`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from target_salesloft.exceptions import ConfigError
from target_salesloft.objects import CUSTOM_FIELDS, CUSTOM_PREFIX, ID_FIELD, FieldType, SalesloftObject
from target_salesloft.settings.options import Overwrite
from target_salesloft.settings.streams import StreamSettings
from target_salesloft.suggestions import did_you_mean, normalize_name


def resolve_overwrite(
    stream: str,
    settings: StreamSettings,
    get_custom_fields: Callable[[], Mapping[str, FieldType] | None],
) -> dict[str, Overwrite]:
    """Return the setting `overwrite` with the field names used in payloads.

    Args:
        get_custom_fields: Returns the team's custom fields, or None if they are unknown. Called only if needed.
    """
    resolved = {}
    for name, when in settings.overwrite.items():
        standard = settings.object.aliases.get(name, name)
        setting = f"streams.{stream}.overwrite.{name}"
        if standard in {settings.upsert_key, ID_FIELD}:
            raise ConfigError(f"Invalid field for {setting}: it identifies the records. Remove it.", code="SL003")
        if standard in settings.object.fields and standard != CUSTOM_FIELDS:
            resolved[standard] = when
            continue
        resolved[_custom_field(setting, name, settings.object, get_custom_fields())] = when
    return resolved


def _custom_field(
    setting: str, field: str, salesloft_object: SalesloftObject, custom_fields: Iterable[str] | None
) -> str:
    """Return `custom_fields.NAME` with the name as Salesloft spells it."""
    name = field.removeprefix(CUSTOM_PREFIX)
    hint = did_you_mean(field, salesloft_object.fields) or did_you_mean(name, custom_fields or ())
    if custom_fields is None and not hint:  # they cannot be listed
        return CUSTOM_PREFIX + name
    matches = [each for each in custom_fields or () if each == name or normalize_name(each) == normalize_name(name)]
    if not matches:
        raise ConfigError(
            f"Unknown field for {setting}: Salesloft's {salesloft_object.name} have no field or custom field of this "
            f"name{hint}.",
            code="SL003",
        )
    return CUSTOM_PREFIX + (name if name in matches else matches[0])

"""Lists what columns can be mapped to."""

from __future__ import annotations

import sys
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final

from target_salesloft.objects import ALL_MODES, ID_FIELD
from target_salesloft.redaction import sanitize_line
from target_salesloft.salesloft.build import build_client
from target_salesloft.salesloft.custom_fields import CustomFields
from target_salesloft.salesloft.rate_limit import RateLimiter
from target_salesloft.settings.schema import has_credentials
from target_salesloft.settings.validation import resolve

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from target_salesloft.clock import Clock
    from target_salesloft.objects import FieldType, SalesloftObject

MAX_NAME_LENGTH: Final = 200


def fields(values: Mapping[str, Any], objects: Iterable[SalesloftObject], clock: Clock) -> int:
    """Print the fields of objects, and the team's custom fields if there are credentials; these cost points.

    Args:
        values: The settings as they are written.
        objects: Whose fields to print.
        clock: The clock of the command.

    Returns:
        The exit code.

    Raises:
        ConfigError: The settings are invalid.
        SalesloftFatalError: The token is rejected, or Salesloft cannot be reached.
    """
    config = resolve({**values, "dry_run": True})  # which needs no credentials
    if not has_credentials(config):
        for each in objects:
            _print(each, None)
        print("Custom fields are not listed: there are no credentials.", file=sys.stderr)
        return 0
    with closing(build_client(config, clock, RateLimiter(config["rate_limit_per_minute"], clock))) as client:
        client.verify_credentials()
        custom_fields = CustomFields(client)
        for each in objects:
            _print(each, custom_fields.get(each) if each.custom_field_type else None)
    return 0


def _print(salesloft_object: SalesloftObject, custom_fields: Mapping[str, FieldType] | None) -> None:
    rows = [
        *_describe(salesloft_object),
        *_describe_references(salesloft_object),
        *_describe_custom(custom_fields or {}),
    ]
    width = max(len(name) for name, _ in rows)
    print(f"{salesloft_object.name}:")
    for name, description in rows:
        print(f"  {name.ljust(width)}  {description}")


def _describe(salesloft_object: SalesloftObject) -> Iterator[tuple[str, str]]:
    """Yield the name and the description of each field."""
    identity = {name for each in salesloft_object.operations.values() for name in each.identity}
    for name, field in salesloft_object.fields.items():
        aliases = [alias for alias, of in salesloft_object.aliases.items() if of == name]
        notes = [
            "Salesloft's own id" if name == ID_FIELD else "",
            f"upsert key{', by default' if name == salesloft_object.upsert_keys[0] else ''}"
            if name in salesloft_object.upsert_keys
            else "",
            "identifies the record" if name in identity else "",
            "" if field.modes == ALL_MODES else f"only {' or '.join(sorted(mode.value for mode in field.modes))}",
            f"a column named {' or '.join(aliases)} is sent here" if aliases else "",
        ]
        yield name, "; ".join([field.kind.value, *(note for note in notes if note)])


def _describe_references(salesloft_object: SalesloftObject) -> Iterator[tuple[str, str]]:
    """Yield the name and the description of each reference."""
    for name, reference in salesloft_object.references.items():
        yield name, f"{reference.kind.value}; looked up to fill {reference.field}"


def _describe_custom(custom_fields: Mapping[str, FieldType]) -> Iterator[tuple[str, str]]:
    for name, kind in sorted(custom_fields.items()):
        yield f"custom_fields.{sanitize_line(name, MAX_NAME_LENGTH)}", f"{kind.value}; custom field"

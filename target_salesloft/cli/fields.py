"""Lists the targets of mappings, and suggests a mapping for a stream."""

from __future__ import annotations

import json
import re
import sys
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import closing
from typing import IO, Any, Final

import click
from singer_sdk.singerlib.exceptions import InvalidInputLine

from target_salesloft.cli.options import offline_settings_option
from target_salesloft.clock import Clock
from target_salesloft.encoding import decode_object
from target_salesloft.exceptions import INVALID_INPUT, ConfigError, PermissionDeniedError
from target_salesloft.objects import ALL_MODES, ID_FIELD, OBJECTS, FieldType, Reference, SalesloftObject
from target_salesloft.redaction import sanitize_line
from target_salesloft.salesloft.build import build_client
from target_salesloft.salesloft.client import SalesloftClient
from target_salesloft.salesloft.custom_fields import CustomFields
from target_salesloft.settings.run import RunSettings
from target_salesloft.settings.streams import DELETED_COLUMNS, NULL_STRING, StreamSettings
from target_salesloft.singer.input_file import InputFile
from target_salesloft.singer.reader import require_schema
from target_salesloft.suggestions import TYPO, closest_match, normalize_name

METADATA: Final = "_sdc_"
# Words that don't describe the content of a column.
GENERIC: Final = frozenset({"id", "key", "name", "type", "date", "at", "no", "nr", "number", "code", "contact"})
# Common column words → Salesloft's words.
SYNONYMS: Final = {
    "company": "account",
    "mail": "email",
    "organization": "account",
    "salesforce": "crm",
    "sfdc": "crm",
    "site": "domain",
    "url": "domain",
    "website": "domain",
}
PLAIN: Final = re.compile(r"[A-Za-z_][\w .-]*")


@click.command()
@offline_settings_option
@click.argument("name", metavar="[OBJECT]", type=click.Choice(list(OBJECTS)), required=False)
@click.option("--stream", type=InputFile("rb"), metavar="FILE", help="Suggest a mapping for the tap's output in FILE.")
@click.pass_obj
def fields(clock: Clock, settings: RunSettings, name: str | None, stream: IO[Any] | None) -> int:
    """List the fields that columns can be mapped to.

    With credentials, it also lists the team's custom fields, users, stages, tiers, and cadences.
    """
    objects = [OBJECTS[each] for each in ([name] if name else OBJECTS)]
    if not settings.credentials:
        _print_all(settings, objects, None, stream)
        print("Custom fields, users, stages, tiers, and cadences are not listed: no credentials.", file=sys.stderr)
        return 0
    with closing(build_client(settings, clock)) as client:
        client.verify_credentials()
        _print_all(settings, objects, client, stream)
    return 0


def _print_all(
    settings: RunSettings,
    objects: Iterable[SalesloftObject],
    client: SalesloftClient | None,
    stream: IO[Any] | None,
) -> None:
    custom_fields = CustomFields(client)
    if stream is not None:
        declared = _read_columns(stream)
        print("streams:")
        for name, columns in declared.items():
            _print_mapping(name, columns, settings, custom_fields)
        return
    listed: defaultdict[str, list[Reference]] = defaultdict(list)
    for each in objects:
        team_fields = custom_fields.get(each) if each.custom_field_type and client is not None else None
        rows = list(_describe(each))
        rows += [(name, f"{of.kind.value}; looked up to fill {of.field}") for name, of in each.references.items()]
        for name, kind in sorted((team_fields or {}).items()):
            rows.append((f"custom_fields.{sanitize_line(name)}", f"{kind.value}; custom field"))
        _print_rows(each.name, rows)
        for reference in each.references.values():
            if reference.object_name is None:
                listed[reference.path].append(reference)
    if client is not None:
        for path, references in listed.items():
            _print_rows(path.strip("/"), _list_names(client, references))


def _print_rows(title: str, rows: Collection[tuple[str, str]]) -> None:
    width = max((len(name) for name, _ in rows), default=0)
    print(f"{title}:")
    for name, description in rows:
        print(f"  {name.ljust(width)}  {description}".rstrip())


def _describe(salesloft_object: SalesloftObject) -> Iterator[tuple[str, str]]:
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


def _list_names(client: SalesloftClient, references: Sequence[Reference]) -> list[tuple[str, str]]:
    first = references[0]
    try:
        rows = list(client.paginate(first.path, dict(first.query)))
    except PermissionDeniedError as error:
        return [("", f"not listed: {error}")]
    how = " or ".join(each.name for each in references)
    names = ((next((row[each] for each in first.attributes if row.get(each)), ""), row) for row in rows)
    return sorted((sanitize_line(str(name)), f"{how}; id {row.get(ID_FIELD)}") for name, row in names)


# A mapping for a stream


def _read_columns(messages: IO[Any]) -> dict[str, list[str]]:
    columns: dict[str, list[str]] = {}
    for number, line in enumerate(messages, 1):
        try:
            message = decode_object(line) if line.strip() else {}
            if message.get("type") == "SCHEMA":
                require_schema(message)
                properties = message["schema"]["properties"]
                columns[message["stream"]] = [each for each in properties if not each.startswith(METADATA)]
        except InvalidInputLine as error:
            if columns and not line.endswith(b"\n"):
                break  # the tap was interrupted
            raise ConfigError(f"Invalid input at line {number}: {error}", code=INVALID_INPUT) from None
    if not columns:
        raise ConfigError("The file has no SCHEMA message. Save the output of the tap: tap-yours > FILE.")
    return columns


def _print_mapping(stream: str, columns: Collection[str], run: RunSettings, custom_fields: CustomFields) -> None:
    """Print the settings of a stream in YAML. For columns that match no field, a field is guessed."""
    try:
        settings = StreamSettings.for_stream(stream, run)
    except ConfigError as error:
        print(f"  # {error}")
        return
    salesloft_object = settings.object
    custom = (custom_fields.get(salesloft_object) if salesloft_object.custom_field_type else None) or {}
    print(f"  {_quote(stream)}:\n    object: {salesloft_object.name}")
    marks = [each for each in columns if normalize_name(each) in DELETED_COLUMNS and each not in settings.mapping]
    if settings.deleted_column in columns:
        marks.insert(0, settings.deleted_column)
    if marks:
        print(f"    deleted_column: {_quote(marks[0])}")
    print("    mapping:")
    targets = dict(_known_targets(columns, settings, custom))
    taken = {target for target, _ in targets.values()}
    for column in columns:
        if column in marks:
            continue
        if column in targets:
            target, note = targets[column]
        else:
            target = _guess(column, salesloft_object, custom, taken) or NULL_STRING
            note = "matches no field" if target == NULL_STRING else "a guess: check it"
            taken.add(target)
        print(f"      {_quote(column)}: {_quote(target)}  # {note}")
    if settings.upsert_key and settings.upsert_key not in taken:
        print(f"      # Add the column of {settings.upsert_key}, the upsert key: none was found.")


def _known_targets(
    columns: Iterable[str], settings: StreamSettings, custom: Iterable[str]
) -> Iterator[tuple[str, tuple[str, str]]]:
    """Yield the columns that need no guess, each with its field and the reason."""
    salesloft_object = settings.object
    known = {normalize_name(each): each for each in custom}
    for column in columns:
        name = salesloft_object.aliases.get(column, column)
        own = name if name in salesloft_object.fields and name != ID_FIELD else known.get(normalize_name(column))
        if column in settings.mapping:
            yield column, (settings.mapping[column] or NULL_STRING, "as set")
        elif own is not None:
            links = [each for each in salesloft_object.references if _words(each) <= _words(own)]
            yield column, (own, "by its name" + (f"; {links[0]} would link the record" if links else ""))


def _guess(column: str, salesloft_object: SalesloftObject, custom: Iterable[str], taken: Collection[str]) -> str | None:
    """Return the field that best matches a column, by its words or as a whole. Keys come first.

    Integers are excluded: they are Salesloft's own ids, which warehouses rarely have.
    """
    words, references = _words(column), salesloft_object.references
    if words <= GENERIC:
        return None
    fields = [name for name, each in salesloft_object.fields.items() if each.kind is not FieldType.INTEGER]
    free = [each for each in (*salesloft_object.upsert_keys, *references, *fields, *custom) if each not in taken]
    # A company's id is not its CRM id, and a company may be referenced by name or by domain.
    is_exact = "id" in words
    shared = {
        name: len(words & known)
        for name, known in ((each, _words(each)) for each in free if each != ID_FIELD)
        if known <= words or (words <= known and not is_exact and name not in references)
    }
    return max(shared, key=lambda each: shared[each], default=None if is_exact else closest_match(column, free, TYPO))


def _words(name: str) -> set[str]:
    """Return the words of a name as Salesloft calls them, without `address`: `email_address` equals `email`."""
    return {SYNONYMS.get(each, each) for each in re.split(r"[\W_]+", name.casefold()) if each} - {"address"}


def _quote(name: str) -> str:
    name = sanitize_line(name)
    return name if PLAIN.fullmatch(name) else json.dumps(name, ensure_ascii=False)

"""Maps records to payloads or rejections. Pure: no network, no clock.

The route of a column is resolved once, not for each record.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Final, NamedTuple

from target_salesloft.exceptions import ConfigError, UnknownColumnError
from target_salesloft.mapping.coercion import (
    COERCIONS,
    NORMALIZING_COERCIONS,
    CoercionError,
    is_blank,
    parse_custom_fields,
    to_trimmed_text,
)
from target_salesloft.objects import (
    CRM_ID_TYPE,
    CUSTOM_FIELDS,
    CUSTOM_PREFIX,
    ID_FIELD,
    REQUIRED_REFERENCES,
    UPSERT_KEY,
    FieldType,
    Reference,
    SalesloftObject,
    SyncMode,
    identity_key,
)
from target_salesloft.records import NOTHING, Named, Source, Write
from target_salesloft.redaction import sanitize_line
from target_salesloft.settings.options import NullValues, UnknownFields
from target_salesloft.suggestions import did_you_mean, normalize_name

# `custom_fields.Region`, or `custom_fields__Region` after the SDK's flattening. Any repeated separator is accepted,
# because the name may start with another special character.
CUSTOM_COLUMN: Final = re.compile(r"custom_fields(?P<separator>[\W_])(?P=separator)*(?P<name>.+)", re.DOTALL)
CUSTOM_OBJECT: Final = FieldType.CUSTOM_FIELDS
SDK_METADATA: Final = "_sdc_"
MAX_NAME_LENGTH: Final = 100
BY_MAPPING: Final = "left out by the mapping"
NULL_ADVICE: Final = "null (__NULL__ in meltano.yml)"


class Rejection(NamedTuple):
    """The reason why a record cannot be sent, without its values."""

    reason: str
    fields: tuple[str, ...] = ()
    missing_key: bool = False  # whether the record is valid except that its key is missing


class PayloadField(NamedTuple):
    name: str
    custom: bool = False


class Route(NamedTuple):
    """The path of a column's values into the payload."""

    column: str
    field: PayloadField
    kind: FieldType
    coerce: Callable[[Any], Any]  # converts a value other than None; may return None for null
    reference: Reference | None = None  # if the values name another record, whose id is sent instead


class ColumnMapping(NamedTuple):
    """A column and its field, for messages."""

    column: str  # safe to log
    field: str | None  # None if the column is left out
    reason: str = ""


def needs_custom_fields(
    salesloft_object: SalesloftObject, mapping: Mapping[str, str | None], columns: Iterable[str]
) -> bool:
    """Return whether these columns can only be mapped with the team's custom fields, which cost points to list.

    Args:
        mapping: Column → field, custom field, or None to leave the column out.
    """
    targets = (
        _target_name(column, mapping) for column in columns if mapping.get(column) not in salesloft_object.references
    )
    fields = (salesloft_object.fields.get(_field_name(salesloft_object, each)) for each in targets if each is not None)
    return any(field is None or field.kind is FieldType.CUSTOM_FIELDS for field in fields)


class RecordMapper:
    """Maps the records of one stream.

    Attributes:
        warnings: Messages about the mapping, each once.

    Args:
        mapping: Column → field, custom field, or None to leave the column out.
        normalize: Whether to trim text, and normalize email addresses and domains; blank text then counts as null.
        omits_references: Whether records are written without invalid references.
        columns: The columns that the stream's schema declares.
        columns_complete: Whether records can't have other columns, so that a missing key column is an error.
        custom_fields: The team's custom fields: exact name → type. None if unknown, or if `needs_custom_fields` says
            that they are not needed.
        sends_unchecked: Whether to send custom fields whose names cannot be checked.

    Raises:
        ConfigError: The mapping contradicts itself or the sync mode, or no column maps to the key.
        UnknownColumnError: A column matches no field, and `unknown_fields` is `fail`.
    """

    def __init__(  # noqa: PLR0913 (one argument per setting)
        self,
        salesloft_object: SalesloftObject,
        mode: SyncMode,
        upsert_key: str,
        *,
        mapping: Mapping[str, str | None],
        unknown_fields: UnknownFields,
        null_values: NullValues,
        normalize: bool,
        omits_references: bool = True,
        columns: Iterable[str],
        columns_complete: bool = False,
        custom_fields: Mapping[str, FieldType] | None = None,
        sends_unchecked: bool = True,
    ) -> None:
        self._object = salesloft_object
        self._mode = mode
        self._key = upsert_key
        self._key_field = PayloadField(upsert_key)
        key_field = salesloft_object.fields.get(upsert_key)
        self._is_email_key = key_field is not None and key_field.kind is FieldType.EMAIL
        self._identity = salesloft_object.operations[mode].identity
        self._mapping = mapping
        self._unknown_fields = unknown_fields
        self._clear = null_values == "clear"
        self._normalize = normalize
        self._omits_references = omits_references
        self._sends_unchecked = sends_unchecked
        self._custom_fields: Mapping[str, FieldType] | None = None
        self._routes: dict[str, Route | None] = {}
        self._texts: dict[str, str] = {}  # column → field, for text that is only trimmed
        self._custom_routes: dict[str, Route | None] = {}
        self._senders: dict[PayloadField, str] = {}  # field → the column that is sent to it
        self._reference_fields: set[str] = set()
        self.warnings: list[str] = []
        self._left_out: dict[str, str] = {}  # column that is not sent, except by mapping to null → reason
        self._is_complete = columns_complete
        columns = list(columns)
        self.add_columns(columns, custom_fields)
        if columns_complete:
            self._require_key(columns)
        for column in sorted(mapping.keys() - columns) if columns else ():
            self.warnings.append(_absent_column(column, columns))

    def new_columns(self, record: Mapping[str, Any]) -> list[str]:
        return [] if record.keys() <= self._routes.keys() else sorted(record.keys() - self._routes.keys())

    def add_columns(self, columns: Collection[str], custom_fields: Mapping[str, FieldType] | None) -> None:
        """Resolve the routes of new columns.

        Args:
            custom_fields: As for the constructor; None changes nothing.
        """
        if custom_fields is not None:
            self._custom_fields = custom_fields
        for column in columns:
            if column in self._mapping:
                self._routes[column] = self._resolve(column)
        # A column in `mapping` takes precedence, unless the stream does not have it.
        for column, target in self._mapping.items():
            if target is not None and (column in self._routes or not self._is_complete):
                self._senders.setdefault(self._target(target), column)
        # Columns named like fields take precedence over aliases.
        for column in sorted(columns, key=lambda each: each not in self._object.fields):
            if column not in self._mapping:
                self._routes[column] = self._resolve(column)
        self._texts = {
            column: route.field.name
            for column, route in self._routes.items()
            if route is not None and route.coerce is to_trimmed_text and not route.field.custom
        }

    def describe_columns(self) -> list[ColumnMapping]:
        """Return the mapping of the columns seen so far. Columns that are sent come first."""
        described = [
            ColumnMapping(_clean(column), None, self._left_out.get(column, BY_MAPPING))
            if route is None
            else ColumnMapping(_clean(column), _describe_target(route))
            for column, route in (*self._routes.items(), *self._custom_routes.items())
            if not column.startswith(SDK_METADATA) or route is not None
        ]
        return sorted(described, key=lambda each: each.field is None)

    def map(self, record: Mapping[str, Any], source: Source | None = None) -> Write | Rejection:
        """Map a record whose columns are known.

        Raises:
            UnknownColumnError: An object of custom fields has an unknown name, and `unknown_fields` is `fail`.
        """
        body: dict[str, Any] = {}
        custom: dict[str, Any] = {}
        missing: list[str] = []
        texts, sends_null = self._texts, self._clear
        for column, value in record.items():
            field = texts.get(column)
            # A fast path for nearly all values.
            if field is not None and type(value) is str and value.isascii() and "\0" not in value:
                if text := value.strip():
                    body[field] = text
                elif sends_null:
                    body[field] = None
                continue
            route = self._routes[column]
            if route is None:
                continue
            try:
                coerced = None if value is None else route.coerce(value)
            except CoercionError as error:
                if route.reference is None or not self._is_omitted(route):
                    return _reject(route, error)
                missing.append(f"{route.reference.name}: not a valid value")
                continue
            if route.kind is CUSTOM_OBJECT:
                rejection = self._map_object(coerced or {}, custom)
                if rejection is not None:
                    return rejection
            elif coerced is not None or sends_null:
                name, is_custom = route.field
                is_time = coerced is None and not is_custom and name in self._object.times  # which is cleared by false
                (custom if is_custom else body)[name] = False if is_time else coerced
        if custom:
            body[CUSTOM_FIELDS] = custom
        return self._build_write(body, tuple(missing), record, () if source is None else (source,))

    def _map_object(self, values: Mapping[str, Any], custom: dict[str, Any]) -> Rejection | None:
        for name, value in values.items():
            route = self._custom_route(name)
            if route is None:
                continue
            try:
                coerced = None if value is None else route.coerce(value)
            except CoercionError as error:
                return _reject(route, error)
            if coerced is not None or self._clear:
                custom[route.field.name] = coerced
        return None

    def map_key(self, record: Mapping[str, Any]) -> Write | Rejection:
        """Return a write with only the fields that identify the record."""
        targets = {PayloadField(name) for name in (self._key, ID_FIELD, *self._identity)}
        routes = ((column, self._routes.get(column)) for column in record)
        columns = [column for column, route in routes if route is not None and route.field in targets]
        return self.map({column: record[column] for column in columns})

    def map_removal(self, record: Mapping[str, Any]) -> Write | Rejection:
        """Return the write that removes a record."""
        write = self.map_key(record)
        if isinstance(write, Write) and write.key is None:
            return Rejection(f"missing delete key: {self._key}", (self._key,), missing_key=True)
        return write

    def _is_omitted(self, route: Route) -> bool:
        """Return whether a record is written without a reference whose value is invalid."""
        return self._omits_references and route.field.name not in {*self._identity, *REQUIRED_REFERENCES}

    def _build_write(
        self,
        body: dict[str, Any],
        missing_refs: tuple[str, ...],
        record: Mapping[str, Any],
        sources: tuple[Source, ...],
    ) -> Write | Rejection:
        """Add the key, the references, and the fields that the endpoint requires."""
        references = NOTHING
        if self._reference_fields:
            references = {name: body.pop(name) for name in self._reference_fields if isinstance(body.get(name), Named)}
        if self._identity:
            missing = tuple(name for name in self._identity if body.get(name) is None and name not in references)
            if missing:
                return Rejection(f"missing {' and '.join(missing)}", missing, missing_key=True)
            joint_key = _joint_key(self._identity, body, references)
            return Write(body, joint_key, None, sources, references, missing=missing_refs)
        record_id = body.pop(ID_FIELD, None) if self._mode is SyncMode.UPDATE else None
        name = self._key if record_id is None else ID_FIELD
        value = body.get(name) if record_id is None else record_id
        if value is None and self._mode is not SyncMode.INSERT:
            return Rejection(f"missing {self._mode.value} key: {name}", (name,), missing_key=True)
        if body.get("crm_id") is not None and body.get("crm_id_type") is None:
            body["crm_id_type"] = CRM_ID_TYPE
        if self._mode is SyncMode.UPSERT:
            body[UPSERT_KEY] = name
        spelling = None
        if self._is_email_key and value is not None and record_id is None:
            spelling = _other_case(value, record.get(self._senders[self._key_field]))
        key = None if value is None else identity_key(name, value)
        return Write(body, key, record_id, sources, references, missing=missing_refs, spelling=spelling)

    def _require_key(self, columns: Collection[str]) -> None:
        """Raise an error before the first record is read if no column can be the key."""
        targets = {self._target(each) for each in self._targets(columns)}
        missing = [name for name in self._identity if PayloadField(name) not in targets]
        if missing:
            references = [each.name for each in self._object.references.values() if each.field in missing]
            raise ConfigError(
                f"no column maps to {' and '.join(missing)}. Map the columns that hold them in the stream's mapping "
                f"(COLUMN: {' or '.join([*missing, *references])})."
            )
        if self._mode is SyncMode.INSERT or self._identity:
            return
        mapped = {self._target(each) for each in self._targets(self._mapping.keys() & columns)}
        if self._key_field in targets or (self._mode is SyncMode.UPDATE and PayloadField(ID_FIELD) in mapped):
            return
        advice = f"Map the column that holds it in the stream's mapping (COLUMN: {self._key})"
        if self._mode is SyncMode.UPDATE and self._key != ID_FIELD:
            advice += (
                f". If a column holds Salesloft's own id, map it to id (COLUMN: {ID_FIELD}) or set upsert_key to id"
            )
        elif self._key != ID_FIELD:
            advice += ", or set another upsert_key"
        absent = sorted(each for each in self._mapping.keys() - set(columns) if self._mapping[each] == self._key)
        reason = f": {_absent_column(absent[0], columns)}" if absent else ""
        raise ConfigError(f"no column maps to {self._key}, the {self._mode.value} key{reason}. {advice}.")

    def _targets(self, columns: Iterable[str]) -> list[str]:
        return [target for column in columns if (target := _target_name(column, self._mapping)) is not None]

    def _target(self, name: str, *, is_mapped: bool = True) -> PayloadField:
        """Return the field for a name in `mapping`."""
        if is_mapped and name in self._object.references:
            return PayloadField(self._object.references[name].field)
        field = _field_name(self._object, name)
        return (
            PayloadField(field)
            if field in self._object.fields
            else PayloadField(name.removeprefix(CUSTOM_PREFIX), custom=True)
        )

    def _resolve(self, column: str) -> Route | None:
        """Return the route of a column, or None if it is left out."""
        name = _target_name(column, self._mapping)
        if name is None:
            return None
        is_mapped = column in self._mapping
        target = self._target(name, is_mapped=is_mapped)
        if not target.custom:
            return self._route_standard(column, target, self._object.references.get(name) if is_mapped else None)
        if is_mapped:
            return self._route_mapped_custom(column, target)
        prefixed = CUSTOM_COLUMN.fullmatch(column)
        match = self._match_custom_field(column) or (prefixed and self._match_custom_field(prefixed["name"]))
        if match:
            return self._assign(column, PayloadField(match, custom=True), self._custom_type(match))
        if prefixed and self._custom_fields is None and self._sends_unchecked:
            return self._assign(column, PayloadField(prefixed["name"], custom=True), FieldType.TEXT)
        self._skip_unknown(column, prefixed["name"] if prefixed else None)
        return None

    def _custom_route(self, name: str) -> Route | None:
        """Return the route of a name in an object of custom fields, or None if it is left out."""
        column = f"{CUSTOM_PREFIX}{name}"
        if column not in self._custom_routes:
            self._custom_routes[column] = self._resolve_custom(column, name)
        return self._custom_routes[column]

    def _resolve_custom(self, column: str, name: str) -> Route | None:
        is_unchecked = self._custom_fields is None and self._sends_unchecked
        match = name if is_unchecked else self._match_custom_field(name)
        if match is not None:
            return self._assign(column, PayloadField(match, custom=True), self._custom_type(match))
        self._skip_unknown(column, name)
        return None

    def _custom_type(self, name: str) -> FieldType:
        return (self._custom_fields or {}).get(name, FieldType.TEXT)

    def _match_custom_field(self, name: str) -> str | None:
        """Return the team's custom field with exactly this name, or the only one with a similar spelling."""
        known = self._custom_fields or {}
        if name in known:
            return name
        similar = [each for each in known if normalize_name(each) == normalize_name(name)]
        return similar[0] if len(similar) == 1 else None

    def _route_mapped_custom(self, column: str, target: PayloadField) -> Route | None:
        known = self._custom_fields
        if target.name not in (known or ()):
            self._check_reference(column, target.name)
        if known is None and not self._sends_unchecked:
            raise ConfigError(
                f"mapping sends the column {_quote(column)} to the custom field {_quote(target.name)}, but the token "
                "may not list custom fields, and Salesloft may ignore a name that does not exist (assumption A12). Add "
                "the scope custom_fields:read, or set unchecked_custom_fields to true."
            )
        if known is not None and target.name not in known:
            raise ConfigError(
                f"mapping sends the column {_quote(column)} to {_quote(target.name)}, which is neither a field "
                f"of {self._object.name} nor a custom field of the team"
                f"{did_you_mean(target.name, [*self._standard_names(), *known])}. Names are case-sensitive."
            )
        return self._assign(column, target, self._custom_type(target.name))

    def _check_reference(self, column: str, name: str) -> None:
        """Raise an error if an unknown name looks like a misspelled reference."""
        references = self._object.references
        prefixes = {each.partition(".")[0] for each in references}
        if "." in name and (name.partition(".")[0] in prefixes or did_you_mean(name, references)):
            raise ConfigError(
                f"mapping sends the column {_quote(column)} to {_quote(name)}, which is not a reference of "
                f"{self._object.name} (expected one of: {', '.join(references)})."
            )

    def _skip_unknown(self, column: str, custom_name: str | None) -> None:
        """Leave out a column that matches no field.

        Args:
            custom_name: The custom field that the column explicitly names, or None.
        """
        known = self._custom_fields
        problem = f"no matching {self._object.name} field" + ("" if known is None else " or custom field")
        names = [] if custom_name else self._standard_names()
        problem += did_you_mean(custom_name or column, [*names, *(known or ())])
        if self._unknown_fields == "fail":
            raise UnknownColumnError(
                f"column {_quote(column)}: {problem}. Add the column to the stream's mapping, map it to {NULL_ADVICE} "
                "to leave it out, or set unknown_fields to ignore."
            )
        self._left_out[column] = problem

    def _standard_names(self) -> list[str]:
        return [*self._object.fields, *self._object.aliases]

    def _route_standard(self, column: str, target: PayloadField, reference: Reference | None) -> Route | None:
        field = self._object.fields[target.name]
        mapped = column in self._mapping
        if target.name == ID_FIELD != self._key and not (mapped and self._mode is SyncMode.UPDATE):
            problem = "Salesloft's own id, which is sent only if upsert_key is id"
            if self._mode is SyncMode.UPDATE:
                problem += " or mapping sends a column to id"
        elif self._mode not in field.modes:
            modes = " or ".join(sorted(each.value for each in field.modes))
            problem = f"not supported in {self._mode.value} mode, only in {modes}"
        else:
            return self._assign(column, target, field.kind if reference is None else reference.kind, reference)
        if mapped:
            raise ConfigError(
                f"mapping sends the column {_quote(column)} to {target.name}, which is {problem}. To leave the column "
                f"out, map it to {NULL_ADVICE}."
            )
        self._left_out[column] = f"{target.name} is {problem}"
        return None

    def _assign(
        self, column: str, target: PayloadField, kind: FieldType, reference: Reference | None = None
    ) -> Route | None:
        """Return the route of a column, unless another column is already mapped to its field."""
        holder = self._senders.setdefault(target, column)
        if holder != column and column in self._mapping:
            if holder in self._routes and holder in self._mapping:
                raise ConfigError(
                    f"mapping sends both {_quote(holder)} and {_quote(column)} to {_quote(target.name)}: keep one and "
                    f"map the other to {NULL_ADVICE}."
                )
            # The holder is mapped too but not in this stream: an entry for several streams has columns of each.
            self._senders[target] = column
            for routes in (self._routes, self._custom_routes):
                if holder in routes:  # the schema does not declare the mapped column
                    routes[holder] = None
                    self._left_out[holder] = f"{_quote(column)} maps to {target.name}"
        elif holder != column:
            self._left_out[column] = f"{_quote(holder)} already maps to {target.name}"
            return None
        if reference is None:
            return Route(column, target, kind, self._coercion(target, kind))
        self._reference_fields.add(target.name)
        return Route(column, target, kind, self._name_by(reference), reference)

    @staticmethod
    def _name_by(reference: Reference) -> Callable[[Any], Any]:
        coerce = NORMALIZING_COERCIONS[reference.kind]

        def name(value: Any) -> Named | None:
            text = None if is_blank(value) else coerce(value)
            return Named(reference, text) if text else None

        return name

    def _coercion(self, target: PayloadField, kind: FieldType) -> Callable[[Any], Any]:
        if kind is FieldType.CUSTOM_FIELDS:
            return lambda value: None if is_blank(value) else parse_custom_fields(value)
        if self._normalize and kind in NORMALIZING_COERCIONS:
            return NORMALIZING_COERCIONS[kind]
        coerce = COERCIONS[kind]
        if kind is FieldType.STRING_LIST and not self._clear:
            # An empty list would erase the stored one.
            return lambda value: coerce(value) or None
        if not self._normalize and (target.custom or target.name not in self._object.upsert_keys):
            return coerce
        # A blank key is null even without normalization: it would merge unrelated records.
        return lambda value: None if is_blank(value) else coerce(value)


def _other_case(sent: str, value: Any) -> str | None:
    """Return the spelling of an email address that is not sent, if the source has it in mixed case."""
    if not isinstance(value, str) or (value == sent and value.islower()):
        return None
    other = value.strip() if value.strip() != sent else sent.lower()
    return other if other != sent and other.lower() == sent.lower() else None


def _joint_key(identity: Iterable[str], body: Mapping[str, Any], references: Mapping[str, Named]) -> str:
    """Return the key of a record identified by several fields, including references."""
    parts = (
        f"{references[name].reference.name}={references[name].key.partition('=')[2]}"
        if name in references
        else identity_key(name, body[name])
        for name in identity
    )
    return "&".join(parts)


def _target_name(column: str, mapping: Mapping[str, str | None]) -> str | None:
    """Return the field name that a column maps to, or None if it is left out."""
    if column in mapping:
        return mapping[column]
    return None if column.startswith(SDK_METADATA) else column


def _describe_target(route: Route) -> str:
    if route.reference is not None:
        return f"{route.field.name} (by {route.reference.name})"
    return f"{CUSTOM_PREFIX if route.field.custom else ''}{route.field.name}"


def _field_name(salesloft_object: SalesloftObject, name: str) -> str:
    return salesloft_object.aliases.get(name, name)


def _absent_column(name: str, columns: Iterable[str]) -> str:
    return f"mapping names the column {_quote(name)}, which the stream does not have{did_you_mean(name, columns)}"


def _quote(name: str) -> str:
    return f"'{_clean(name)}'"


def _clean(name: str) -> str:
    return sanitize_line(name, MAX_NAME_LENGTH)


def _reject(route: Route, error: CoercionError) -> Rejection:
    return Rejection(_describe(route, error), (route.field.name,))


def _describe(route: Route, error: CoercionError) -> str:
    """Return the reason for a rejection: `owner_id: expected an integer, got a list (column 'owner')`."""
    name, custom = route.field
    field = f"custom field {_quote(name)}" if custom else name
    if error.actual is None:
        problem = f"not a valid {route.kind.noun}"
    else:
        problem = f"expected {route.kind.value}, got {error.actual}"
    origin = "" if route.column in {name, f"{CUSTOM_PREFIX}{name}"} else f" (column {_quote(route.column)})"
    return f"{field}: {problem}{origin}"

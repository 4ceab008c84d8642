"""A record → a Payload, or a Rejection with its reason; pure.

Where a column goes is decided once per column, not once per record.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from target_salesloft.config.schema import NullValues, UnknownFields
from target_salesloft.exceptions import ConfigError, UnknownColumnError
from target_salesloft.mapping.coercion import COERCIONS, NORMALIZATIONS, CoercionError, to_custom_fields
from target_salesloft.mapping.payload import CUSTOM_FIELDS, Payload
from target_salesloft.objects import CRM_ID_TYPE, ID_FIELD, Field, FieldType, SalesloftObject, SyncMode, identity_key
from target_salesloft.suggestions import did_you_mean, normalize_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

CUSTOM_PREFIX: Final = "custom_fields."
SDK_METADATA: Final = "_sdc_"


class Rejection(NamedTuple):
    """Why a record cannot be sent; holds no value of the record.

    Attributes:
        reason: In words.
        fields: The Salesloft fields that are wrong.
    """

    reason: str
    fields: tuple[str, ...] = ()


class Route(NamedTuple):
    """Where a column goes."""

    column: str
    name: str
    kind: FieldType
    custom: bool
    coerce: Callable[[Any], Any]


class Priority(enum.IntEnum):
    """Who comes first when two columns go to one field."""

    MAPPED = 0
    FIELD = 1
    ALIAS = 2


class RecordMapper:
    """Maps the records of one stream.

    Attributes:
        warnings: What the user should know about columns, each once; whoever logs them empties the list.

    Args:
        salesloft_object: What the records become.
        mode: What happens to them.
        upsert_key: The field that tells which they are.
        mapping: Column → field, custom field, or None to leave it out.
        unknown_fields: What becomes of other columns.
        null_values: What becomes of nulls.
        normalize: Whether texts are trimmed, and e-mail addresses and domains reduced; empty text then is null.
        columns: The columns that the stream's schema names.
        custom_fields: Tells the team's custom fields and their kinds, or None where nobody knows; asked only when a
            column is no standard field.

    Raises:
        ConfigError: The mapping contradicts itself or the mode.
        UnknownColumnError: A column goes nowhere and must not.
    """

    def __init__(  # noqa: PLR0913 (one argument a setting)
        self,
        salesloft_object: SalesloftObject,
        mode: SyncMode,
        upsert_key: str,
        *,
        mapping: Mapping[str, str | None],
        unknown_fields: UnknownFields,
        null_values: NullValues,
        normalize: bool,
        columns: Iterable[str],
        custom_fields: Callable[[], Mapping[str, FieldType] | None] = lambda: None,
    ) -> None:
        self._object = salesloft_object
        self._mode = mode
        self._key = upsert_key
        self._mapping = mapping
        self._custom_fields = custom_fields
        self._unknown_fields = unknown_fields
        self._clear = null_values is NullValues.CLEAR
        self._normalize = normalize
        self._routes: dict[str, Route | None] = {}
        self._taken: dict[tuple[bool, str], str] = {}
        self.warnings: list[str] = []
        columns = list(columns)
        for column in sorted(columns, key=self._priority):
            self._routes[column] = self._resolve(column)
        for column in sorted(mapping.keys() - columns) if columns else ():
            self.warnings.append(
                f"mapping names the column '{column}', which the stream does not have{did_you_mean(column, columns)}"
            )

    def map(self, record: Mapping[str, Any]) -> Payload | Rejection:
        """Return what to send for a record.

        Raises:
            ConfigError: The mapping sends a column that the schema does not name where it cannot go.
            UnknownColumnError: Such a column goes nowhere and must not.
        """
        body: dict[str, Any] = {}
        custom: dict[str, Any] = {}
        for column, value in record.items():
            try:
                route = self._routes[column]
            except KeyError:
                route = self._routes[column] = self._resolve(column)
            if route is None:
                continue
            try:
                sent = None if value is None else route.coerce(value)
            except CoercionError as unfit:
                return Rejection(_unfit(route, unfit), (route.name,))
            if route.kind is FieldType.CUSTOM_FIELDS:
                custom.update(sent or {})
            elif sent is not None or self._clear:
                (custom if route.custom else body)[route.name] = sent
        if custom:
            body[CUSTOM_FIELDS] = custom
        return self._build_payload(body)

    def _build_payload(self, body: dict[str, Any]) -> Payload | Rejection:
        """Add what the endpoint wants beside the fields."""
        record_id = body.pop(ID_FIELD, None) if self._mode is SyncMode.UPDATE else None
        name = self._key if record_id is None else ID_FIELD
        value = body.get(name) if record_id is None else record_id
        if value is None and self._mode is not SyncMode.INSERT:
            return Rejection(f"{name} is missing, and {self._mode.value} finds records by it", (name,))
        if body.get("crm_id") is not None:
            body.setdefault("crm_id_type", CRM_ID_TYPE)
        if self._mode is SyncMode.UPSERT:
            body["upsert_key"] = name
        return Payload(body, None if value is None else identity_key(name, value), record_id)

    def _priority(self, column: str) -> Priority:
        if column in self._mapping:
            return Priority.MAPPED
        return Priority.FIELD if column in self._object.fields else Priority.ALIAS

    def _resolve(self, column: str) -> Route | None:
        """Decide where a column goes; None: nowhere."""
        if column in self._mapping:
            target = self._mapping[column]
            if target is None:
                return None
        elif column.startswith(SDK_METADATA):
            return None
        else:
            target = column
        name = self._object.aliases.get(target, target)
        standard = self._object.fields.get(name)
        if standard is not None:
            return self._route_standard(column, name, standard)
        custom = target.removeprefix(CUSTOM_PREFIX)
        known = self._custom_fields()
        if column in self._mapping:
            return self._mapped_custom(column, custom, known)
        same = (
            [custom]
            if custom in (known or ())
            else [each for each in known or () if normalize_name(each) == normalize_name(custom)]
        )
        if known and len(same) == 1:
            return self._claim_target(column, same[0], known[same[0]], custom=True)
        self._skip_unknown(column, known)
        return None

    def _mapped_custom(self, column: str, custom: str, known: Mapping[str, FieldType] | None) -> Route | None:
        if known is not None and custom not in known:
            near = did_you_mean(custom, [*self._standard_names(), *known])
            raise ConfigError(
                f"mapping sends the column '{column}' to '{custom}', which is no field of Salesloft's "
                f"{self._object.name} and no custom field of the team{near}. Names are case-sensitive."
            )
        return self._claim_target(column, custom, known[custom] if known else FieldType.TEXT, custom=True)

    def _skip_unknown(self, column: str, known: Mapping[str, FieldType] | None) -> None:
        """Warn of a column that goes nowhere, or refuse it."""
        problem = f"the column '{column}' is no field of Salesloft's {self._object.name}"
        if known is not None:
            problem += " and no custom field of the team"
        problem += did_you_mean(column, [*self._standard_names(), *(known or ())])
        if self._unknown_fields is UnknownFields.FAIL:
            raise UnknownColumnError(
                f"{problem}. Name it in the stream's mapping, map it to null (in meltano.yml: __NULL__) "
                "to leave it out, or set unknown_fields to ignore."
            )
        self.warnings.append(f"{problem}; it is left out")

    def _standard_names(self) -> list[str]:
        return [*self._object.fields, *self._object.aliases]

    def _route_standard(self, column: str, name: str, standard: Field) -> Route | None:
        if name == ID_FIELD and self._key != ID_FIELD and self._mode is not SyncMode.UPDATE:
            problem = "Salesloft's own id, which is only sent where it is the key"
        elif self._mode not in standard.modes:
            problem = f"not taken in {self._mode.value} mode, only in {' or '.join(sorted(standard.modes))}"
        else:
            if name == ID_FIELD and self._key != ID_FIELD and column not in self._mapping:
                self.warnings.append(
                    f"the column '{column}' is taken for Salesloft's own id, by which records are updated: if it is, "
                    "set upsert_key to id; if it is the warehouse's, map it to null (in meltano.yml: __NULL__)"
                )
            return self._claim_target(column, name, standard.kind, custom=False)
        if column in self._mapping:
            raise ConfigError(f"mapping sends the column '{column}' to '{name}', which is {problem}")
        self.warnings.append(f"the column '{column}' is left out: {name} is {problem}")
        return None

    def _claim_target(self, column: str, name: str, kind: FieldType, *, custom: bool) -> Route | None:
        first = self._taken.setdefault((custom, name), column)
        if first != column:
            if column in self._mapping and first in self._mapping:
                raise ConfigError(
                    f"mapping sends both '{first}' and '{column}' to '{name}': keep one, set the other to null "
                    "(in meltano.yml: __NULL__)."
                )
            self.warnings.append(f"the column '{column}' is left out: '{first}' goes to {name} already")
            return None
        return Route(column, name, kind, custom, self._coercion(kind))

    def _coercion(self, kind: FieldType) -> Callable[[Any], Any]:
        coerce = COERCIONS[kind]
        if kind is FieldType.CUSTOM_FIELDS and not self._clear:
            coerce = without_nulls
        if not self._normalize:
            return coerce
        normalize = NORMALIZATIONS.get(kind)
        if normalize is None:
            return lambda value: None if isinstance(value, str) and not value.strip() else coerce(value)
        return lambda value: normalize(coerce(value)) or None


def without_nulls(value: Any) -> dict[str, Any]:
    """Return custom fields for an object, without those that are null."""
    return {name: each for name, each in to_custom_fields(value).items() if each is not None}


def _unfit(route: Route, unfit: CoercionError) -> str:
    what = f"custom field '{route.name}'" if route.custom else route.name
    origin = "" if route.column == route.name else f" (column '{route.column}')"
    return f"{what}: expected {route.kind.value}, got {unfit.actual}{origin}"

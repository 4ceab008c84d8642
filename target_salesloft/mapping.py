"""A record → a Payload, or a Rejection with its reason; pure.

Where a column goes is decided once per column, not once per record.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from target_salesloft.errors import InvalidSetting, UnknownColumn
from target_salesloft.names import did_you_mean, loose
from target_salesloft.objects import CRM_ID_TYPE, KEY_ONLY, Field, Kind, SalesloftObject, SyncMode
from target_salesloft.payload import CUSTOM_FIELDS, Payload, key_of
from target_salesloft.values import COERCIONS, NORMALIZATIONS, Unfit, to_custom_fields

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

CUSTOM_PREFIX: Final = "custom_fields."
SDK_METADATA: Final = "_sdc_"


class UnknownFields(str, enum.Enum):
    """What becomes of a column that goes nowhere: the values of the setting `unknown_fields`."""

    IGNORE = "ignore"
    FAIL = "fail"


class NullValues(str, enum.Enum):
    """What becomes of a null: the values of the setting `null_values`."""

    IGNORE = "ignore"
    CLEAR = "clear"


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
    kind: Kind
    custom: bool
    coerce: Callable[[Any], Any]


class Rank(enum.IntEnum):
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
        InvalidSetting: The mapping contradicts itself or the mode.
        UnknownColumn: A column goes nowhere and must not.
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
        custom_fields: Callable[[], Mapping[str, Kind] | None] = lambda: None,
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
        for column in sorted(columns, key=self._rank):
            self._routes[column] = self._decide(column)
        for column in sorted(mapping.keys() - columns) if columns else ():
            self.warnings.append(
                f"mapping names the column '{column}', which the stream does not have{did_you_mean(column, columns)}"
            )

    def map(self, record: Mapping[str, Any]) -> Payload | Rejection:
        """Return what to send for a record.

        Raises:
            InvalidSetting: The mapping sends a column that the schema does not name where it cannot go.
            UnknownColumn: Such a column goes nowhere and must not.
        """
        body: dict[str, Any] = {}
        custom: dict[str, Any] = {}
        for column, value in record.items():
            try:
                route = self._routes[column]
            except KeyError:
                route = self._routes[column] = self._decide(column)
            if route is None:
                continue
            try:
                sent = None if value is None else route.coerce(value)
            except Unfit as unfit:
                return Rejection(_unfit(route, unfit), (route.name,))
            if route.kind is Kind.CUSTOM_FIELDS:
                custom.update(sent or {})
            elif sent is not None or self._clear:
                (custom if route.custom else body)[route.name] = sent
        if custom:
            body[CUSTOM_FIELDS] = custom
        return self._finish(body)

    def _finish(self, body: dict[str, Any]) -> Payload | Rejection:
        """Add what the endpoint wants beside the fields."""
        record_id = body.pop(KEY_ONLY, None) if self._mode is SyncMode.UPDATE else None
        name = self._key if record_id is None else KEY_ONLY
        value = body.get(name) if record_id is None else record_id
        if value is None and self._mode is not SyncMode.INSERT:
            return Rejection(f"{name} is missing, and {self._mode.value} finds records by it", (name,))
        if body.get("crm_id") is not None:
            body.setdefault("crm_id_type", CRM_ID_TYPE)
        if self._mode is SyncMode.UPSERT:
            body["upsert_key"] = name
        return Payload(body, None if value is None else key_of(name, value), record_id)

    def _rank(self, column: str) -> Rank:
        if column in self._mapping:
            return Rank.MAPPED
        return Rank.FIELD if column in self._object.fields else Rank.ALIAS

    def _decide(self, column: str) -> Route | None:
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
            return self._standard(column, name, standard)
        custom = target.removeprefix(CUSTOM_PREFIX)
        known = self._custom_fields()
        if column in self._mapping:
            return self._mapped_custom(column, custom, known)
        same = [custom] if custom in (known or ()) else [each for each in known or () if loose(each) == loose(custom)]
        if known and len(same) == 1:
            return self._claim(column, same[0], known[same[0]], custom=True)
        self._leave_out(column, known)
        return None

    def _mapped_custom(self, column: str, custom: str, known: Mapping[str, Kind] | None) -> Route | None:
        if known is not None and custom not in known:
            near = did_you_mean(custom, [*self._standard_names(), *known])
            raise InvalidSetting(
                f"mapping sends the column '{column}' to '{custom}', which is no field of Salesloft's "
                f"{self._object.name} and no custom field of the team{near}. Names are case-sensitive."
            )
        return self._claim(column, custom, known[custom] if known else Kind.TEXT, custom=True)

    def _leave_out(self, column: str, known: Mapping[str, Kind] | None) -> None:
        """Warn of a column that goes nowhere, or refuse it."""
        problem = f"the column '{column}' is no field of Salesloft's {self._object.name}"
        if known is not None:
            problem += " and no custom field of the team"
        problem += did_you_mean(column, [*self._standard_names(), *(known or ())])
        if self._unknown_fields is UnknownFields.FAIL:
            raise UnknownColumn(
                f"{problem}. Name it in the stream's mapping, map it to null (in meltano.yml: __NULL__) "
                "to leave it out, or set unknown_fields to ignore."
            )
        self.warnings.append(f"{problem}; it is left out")

    def _standard_names(self) -> list[str]:
        return [*self._object.fields, *self._object.aliases]

    def _standard(self, column: str, name: str, standard: Field) -> Route | None:
        if name == KEY_ONLY and self._key != KEY_ONLY and self._mode is not SyncMode.UPDATE:
            problem = "Salesloft's own id, which is only sent where it is the key"
        elif self._mode not in standard.modes:
            problem = f"not taken in {self._mode.value} mode, only in {' or '.join(sorted(standard.modes))}"
        else:
            if name == KEY_ONLY and self._key != KEY_ONLY and column not in self._mapping:
                self.warnings.append(
                    f"the column '{column}' is taken for Salesloft's own id, by which records are updated: if it is, "
                    "set upsert_key to id; if it is the warehouse's, map it to null (in meltano.yml: __NULL__)"
                )
            return self._claim(column, name, standard.kind, custom=False)
        if column in self._mapping:
            raise InvalidSetting(f"mapping sends the column '{column}' to '{name}', which is {problem}")
        self.warnings.append(f"the column '{column}' is left out: {name} is {problem}")
        return None

    def _claim(self, column: str, name: str, kind: Kind, *, custom: bool) -> Route | None:
        first = self._taken.setdefault((custom, name), column)
        if first != column:
            if column in self._mapping and first in self._mapping:
                raise InvalidSetting(
                    f"mapping sends both '{first}' and '{column}' to '{name}': keep one, set the other to null "
                    "(in meltano.yml: __NULL__)."
                )
            self.warnings.append(f"the column '{column}' is left out: '{first}' goes to {name} already")
            return None
        return Route(column, name, kind, custom, self._coercion(kind))

    def _coercion(self, kind: Kind) -> Callable[[Any], Any]:
        coerce = COERCIONS[kind]
        if kind is Kind.CUSTOM_FIELDS and not self._clear:
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


def _unfit(route: Route, unfit: Unfit) -> str:
    what = f"custom field '{route.name}'" if route.custom else route.name
    origin = "" if route.column == route.name else f" (column '{route.column}')"
    return f"{what}: expected {route.kind.value}, got {unfit.got}{origin}"

"""Makes external text safe to log: one line, without secrets and without values of records."""

from __future__ import annotations

import functools
import string
import traceback
import urllib.parse
from typing import TYPE_CHECKING, Any, Final

from target_salesloft.objects import CUSTOM_FIELDS, OBJECTS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

REDACTED: Final = "…"
PUNCTUATION: Final = string.punctuation.replace("_", "")
KEPT_PUNCTUATION: Final = "),.;:"
# Field names as they are, and as people write them: `email_address`, `Email address`.
FIELD_NAMES: Final = frozenset(
    form
    for each in OBJECTS.values()
    for name in (*each.fields, *each.aliases, "upsert_key")
    for spaced in (name.replace("_", " "),)
    for form in (name, spaced, spaced.capitalize(), spaced.title())
)
# The words of error messages, as Rails and Salesloft's documentation have them; case matters: `Will` may be a name.
# A word that is missing here becomes `…` in the log; the failed records file has the full text.
WORD_LIST: Final = """
    a absent accept accepted access account accounts active added address addresses after again ahead allowed already
    an and another any api_url archived are array as associated at attribute attributes authentication authorized
    available bad be bearer because been before belong belongs between blank body boolean both but by bytes cadence
    cadences can can't canceled cancelled cannot case changed character characters check closed column columns
    combination company concurrently conflict conflicts contact contacts contain contains correct could create created
    custom date dates datetime day dead deleted denied did different digits disabled do does doesn't domain domains
    don't duplicate duplicated email emails empty end ends entity entries entry equal error errors even exceeded
    exceeds excluded exist existing exists expected expired failed failure false few field fields for forbidden format
    found from future given greater had has have hour id identical ids if immutable in included inclusion incomplete
    incorrect integer integers internal into invalid is isn't it item items its json key keys known large later least
    length less like limit limited list locked long longer malformed many match matches matching max maximum may
    merged method min minimum minute missing more most multiple must name names negative nil no none nor not null
    number numbers object objects odd of off on one only open optional or other out over owner parameter parameters
    params past path pending people permission permissions permitted person persons phone positive present processed
    provided proxy queue range rate read reason recently recognized record records rejected removed request requests
    require required requires reserved resolved resource restrictions retrying returned row rows same scope scoped
    scopes server service settings short should size small specified stage stages start starts status string strings
    supported taken team temporarily text than that the their there these this those time timestamp to token too true
    try type types unable unauthorized unavailable under unexpected unique unknown unprocessable unrecognized
    unsupported until update updated url urls use used user users valid validation value values waiting was website
    were when which while with without words written wrong year yet your
    A API Access Account Accounts An Authentication Bearer Can't Cannot Could Duplicate Email Error Field Fields ID
    Invalid Is It JSON Missing Must No Not Nothing Number Parameter Permission Person Please Rate Record Request
    Requested Required Resource Salesloft Salesloft's The There This Too URL Unable Unauthorized Unknown Unprocessable
    User Validation Value YYYY-MM-DD You Your
"""
ERROR_WORDS: Final = frozenset(WORD_LIST.split())


def sanitize_line(text: str, max_length: int) -> str:
    """Return external text as one line of printable characters, truncated to a maximum length."""
    return " ".join("".join(each if each.isprintable() else " " for each in text).split())[:max_length]


def redact_secrets(text: str, *secrets: str) -> str:
    """Return a text with `***` in place of each secret, also of one that is URL-encoded; empty ones are ignored."""
    encodings = (
        str,
        urllib.parse.quote,
        urllib.parse.quote_plus,
        functools.partial(urllib.parse.quote, safe=""),
    )
    forms = {encode(each) for each in secrets if each for encode in encodings}
    for form in sorted(forms, key=len, reverse=True):
        text = text.replace(form, "***")
    return text


def redact_reason(text: str, names: Iterable[str] = ()) -> str:
    """Return an error text of Salesloft's as it may be logged: field names and common error words; `…` for the rest.

    Salesloft repeats values, and reformats some of them: it escapes, shortens or splits them. So a text is not searched
    for values; instead, only what cannot be one remains. Numbers are not: texts that differ in a number become equal.

    Args:
        text: The error text.
        names: What may remain besides the words of `ERROR_WORDS` and the names of standard fields, such as the names
            of custom fields.
    """
    known = FIELD_NAMES.union(names)
    longest = max(len(name.split()) for name in known)
    chunks = text.replace("(s)", "s").split()
    words = [chunk.strip(PUNCTUATION) for chunk in chunks]
    result: list[str] = []
    position = 0
    while position < len(chunks):
        sizes = range(min(longest, len(words) - position), 0, -1)
        count = next((size for size in sizes if " ".join(words[position : position + size]) in known), 0)
        if not count and (words[position] in ERROR_WORDS or _is_path(words[position], known)):
            count = 1
        if count:
            opening = "(" if chunks[position].startswith("(") else ""
            last = chunks[position + count - 1]
            closing = "".join(each for each in last[len(last.rstrip(PUNCTUATION)) :] if each in KEPT_PUNCTUATION)
            result.append(f"{opening}{' '.join(words[position : position + count])}{closing}")
        elif result[-1:] != [REDACTED]:
            result.append(REDACTED)
        position += count or 1
    return " ".join(result)


def _is_path(word: str, names: frozenset[str]) -> bool:
    """Whether a word consists of names, such as `custom_fields.Region`."""
    return all(part in names for part in word.split("."))


def request_names(body: Any) -> Iterator[str]:
    """Yield the names of the fields in the JSON of a request, also of custom fields and of the rows of an upload."""
    if not isinstance(body, dict):
        return
    yield from body
    if isinstance(body.get(CUSTOM_FIELDS), dict):
        yield from body[CUSTOM_FIELDS]
    for row in body["data"] if isinstance(body.get("data"), list) else ():
        yield from request_names(row)


def iter_scalars(value: Any) -> Iterator[str]:
    """Yield the strings and numbers in a JSON value, but not the names of its fields."""
    if isinstance(value, dict):
        for each in value.values():
            yield from iter_scalars(each)
    elif isinstance(value, list):
        for each in value:
            yield from iter_scalars(each)
    elif value is not None and not isinstance(value, bool) and str(value).strip():
        yield str(value)


def format_internal_error(error: BaseException) -> str:
    """Return a line about an unexpected exception: its type and place, but not its message, which may contain data."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    return (
        f"Internal error: {type(error).__name__} in {place.name}, line {place.lineno} of {place.filename}. "
        "State was not advanced past unwritten records. Please report this line."
    )

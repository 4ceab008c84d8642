"""Makes text from outside safe to log: one line, without values of records."""

from __future__ import annotations

import functools
import re
import traceback
import urllib.parse
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

SHORTEST_ANYWHERE: Final = 4


def sanitize_line(words: str, longest: int) -> str:
    """Return others' words as a message can hold them: printable, in one line, cut off after so many characters."""
    return " ".join("".join(each if each.isprintable() else " " for each in words).split())[:longest]


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


def redact_values(words: str, body: Any) -> str:
    """Return others' words with `…` in place of each value of what was sent that they repeat."""
    # A longer one cannot stand in the words, and a pattern of megabytes takes seconds.
    values = sorted({each for each in iter_scalars(body) if len(each) <= len(words)}, key=len, reverse=True)
    if not values:
        return words
    # A short value may be part of any word.
    patterns = (
        re.escape(each) if len(each) >= SHORTEST_ANYWHERE else rf"(?<!\w){re.escape(each)}(?!\w)" for each in values
    )
    return re.sub("|".join(patterns), "…", words, flags=re.IGNORECASE)


def iter_scalars(value: Any) -> Iterator[str]:
    """Yield the texts and numbers of a payload, which would tell something about a person."""
    if isinstance(value, dict):
        for name, each in value.items():
            if name != "upsert_key":
                yield from iter_scalars(each)
    elif isinstance(value, list):
        for each in value:
            yield from iter_scalars(each)
    elif value is not None and not isinstance(value, bool) and str(value).strip():
        yield str(value)


def came_through(fault: BaseException, module: ModuleType) -> bool:
    """Whether an exception was raised by a module's code, or by what that called."""
    return any(frame.f_code.co_filename == module.__file__ for frame, _ in traceback.walk_tb(fault.__traceback__))


def format_internal_error(fault: BaseException) -> str:
    """Return a line for what should not have happened: where, but not in the exception's words, which may hold data."""
    place = traceback.extract_tb(fault.__traceback__)[-1]
    return (
        f"A fault of target-salesloft itself: {type(fault).__name__} in {place.name}, line {place.lineno} of "
        f"{place.filename}. State has not passed what was not written. Please report this line."
    )

"""Names that people write in different ways."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import rapidfuzz

if TYPE_CHECKING:
    from collections.abc import Iterable

SUGGEST_CUTOFF: Final = 65
TYPO_CUTOFF: Final = 80


def normalize_name(name: str) -> str:
    """Return a name without what people write in different ways: case, spaces, underscores, hyphens."""
    return name.casefold().replace(" ", "").replace("_", "").replace("-", "")


def closest_match(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that was meant, or None: but for a letter or two they are the same."""
    found = rapidfuzz.process.extractOne(
        name, list(known), scorer=rapidfuzz.fuzz.ratio, processor=normalize_name, score_cutoff=TYPO_CUTOFF
    )
    return str(found[0]) if found else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ` (did you mean 'title'?)`, or nothing where no known name is near, in whole or in part."""
    found = rapidfuzz.process.extractOne(name, list(known), processor=normalize_name, score_cutoff=SUGGEST_CUTOFF)
    return f" (did you mean '{found[0]}'?)" if found else ""

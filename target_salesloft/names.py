"""Names that people write in different ways."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import rapidfuzz

if TYPE_CHECKING:
    from collections.abc import Iterable

NEAR_ENOUGH: Final = 65
ALMOST_THE_SAME: Final = 80


def loose(name: str) -> str:
    """Return a name without what people write in different ways: case, spaces, underscores, hyphens."""
    return name.casefold().replace(" ", "").replace("_", "").replace("-", "")


def misspelt(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that was meant, or None: but for a letter or two they are the same."""
    found = rapidfuzz.process.extractOne(
        name, list(known), scorer=rapidfuzz.fuzz.ratio, processor=loose, score_cutoff=ALMOST_THE_SAME
    )
    return str(found[0]) if found else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ` (did you mean 'title'?)`, or nothing where no known name is near, in whole or in part."""
    found = rapidfuzz.process.extractOne(name, list(known), processor=loose, score_cutoff=NEAR_ENOUGH)
    return f" (did you mean '{found[0]}'?)" if found else ""

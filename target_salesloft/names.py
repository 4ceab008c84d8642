"""Names that people write in different ways."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import rapidfuzz

if TYPE_CHECKING:
    from collections.abc import Iterable

NEAR_ENOUGH: Final = 65


def loose(name: str) -> str:
    """Return a name without what people write in different ways: case, spaces, underscores, hyphens."""
    return name.casefold().replace(" ", "").replace("_", "").replace("-", "")


def nearest(name: str, known: Iterable[str], score: float = NEAR_ENOUGH) -> str | None:
    """Return the known name that was probably meant, or None; a score of 100 is the same name."""
    found = rapidfuzz.process.extractOne(name, list(known), processor=loose, score_cutoff=score)
    return str(found[0]) if found else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ` (did you mean 'title'?)`, or nothing where no known name is near."""
    found = nearest(name, known)
    return f" (did you mean '{found}'?)" if found else ""

"""Suggestions for misspelled names."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import SequenceMatcher
from typing import Final

# Shares of characters that two names have in common, from 0 to 1.
SIMILAR: Final = 0.6
TYPO: Final = 0.83


def normalize_name(name: str) -> str:
    """Return a name without case, spaces, underscores, and hyphens."""
    return name.casefold().replace(" ", "").replace("_", "").replace("-", "")


def closest_match(name: str, known: Iterable[str], cutoff: float = SIMILAR) -> str | None:
    """Return the most similar known name, or None if none is similar enough."""
    match = max(known, key=lambda each: _similarity(name, each), default=None)
    return match if match is not None and _similarity(name, match) >= cutoff else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ` (did you mean 'title'?)` for a misspelled name, or an empty string.

    Only names that are identical except for a typo are suggested, because a wrong suggestion would send a column to the
    wrong field.
    """
    match = closest_match(name, (each for each in known if _is_typo(name, each)), TYPO)
    return f" (did you mean '{match}'?)" if match else ""


def _similarity(name: str, known: str) -> float:
    name, known = normalize_name(name), normalize_name(known)
    # Transposed letters are the most frequent typo.
    return 1.0 if sorted(name) == sorted(known) else SequenceMatcher(None, name, known, autojunk=False).ratio()


def _is_typo(name: str, known: str) -> bool:
    name, known = normalize_name(name), normalize_name(known)
    # `lname` is not a typo of `name`, and `account` not one of `account_id`.
    return name[:1] == known[:1] and abs(len(name) - len(known)) <= 1

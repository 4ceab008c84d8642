"""Lets a run go on without memory when the ledger of the default location fails."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, TypeVar

from target_salesloft.exceptions import LedgerError

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


def falls_back_to(null: object) -> Callable[[type[T]], type[T]]:
    """Return a class decorator: once the database has failed, methods do what those of another object do.

    Args:
        null: Has the same methods, and remembers nothing. The class has an attribute `database`.
    """

    def decorate(decorated: type[T]) -> type[T]:
        for name in dir(null):
            if not name.startswith("_") and callable(getattr(null, name)):
                setattr(decorated, name, _with_fallback(getattr(decorated, name), getattr(null, name)))
        return decorated

    return decorate


def _with_fallback(method: Callable[..., Any], fallback: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not self.database.has_failed:
            try:
                return method(self, *args, **kwargs)
            except LedgerError as error:
                self.database.give_up(error)
        return fallback(*args, **kwargs)

    return call

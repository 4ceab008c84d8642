"""What the API answers when it says no."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

Errors = dict[str, list[str]]
"""Field -> what is wrong with it, as a 422 tells it."""


class RefusedError(Exception):
    """A request that is refused.

    Args:
        status: The HTTP status to answer.
        message: The sentence under `error`; not used where `errors` is given.
        errors: The messages per field under `errors`.
    """

    def __init__(self, status: int, message: str = "", *, errors: Mapping[str, list[str]] | None = None) -> None:
        super().__init__(message or errors)
        self.status = status
        self.message = message
        self.errors = errors

    @classmethod
    def invalid(cls, field: str, message: str) -> RefusedError:
        """A 422 about one field."""
        return cls(422, errors={field: [message]})

    @property
    def body(self) -> dict[str, object]:
        """The JSON body of the answer."""
        return {"error": self.message} if self.errors is None else {"errors": dict(self.errors)}

    def __str__(self) -> str:
        """The refusal as one line, as a bulk job shows it beside a row."""
        if self.errors is None:
            return self.message
        return ", ".join(f"{field} {told}" for field, all_ in self.errors.items() for told in all_)


class MissingScopeError(RefusedError):
    """A request that needs a scope which the key does not have."""

    def __init__(self, scope: str) -> None:
        super().__init__(403, f"This request requires the scope {scope}, which your API key does not have")

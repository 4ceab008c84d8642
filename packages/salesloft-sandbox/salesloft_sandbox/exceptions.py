"""Error responses of the API, as exceptions."""

from __future__ import annotations

from collections.abc import Mapping

Errors = dict[str, list[str]]
"""Field name -> messages, as in the body of a 422."""


class ApiError(Exception):
    """An error response."""

    def __init__(self, status: int, message: str = "", *, errors: Mapping[str, list[str]] | None = None) -> None:
        super().__init__(message or errors)
        self.status = status
        self.message = message
        self.errors = errors

    @classmethod
    def invalid(cls, field: str, message: str) -> ApiError:
        """Create a 422 about one field."""
        return cls(422, errors={field: [message]})

    @property
    def body(self) -> dict[str, object]:
        """The JSON body of the response."""
        return {"error": self.message} if self.errors is None else {"errors": dict(self.errors)}

    def __str__(self) -> str:
        """Return the error as one line, as in the rows of a bulk job."""
        if self.errors is None:
            return self.message
        return ", ".join(f"{field} {message}" for field, messages in self.errors.items() for message in messages)


class MissingScopeError(ApiError):
    """A request that requires a scope which the API key does not have."""

    def __init__(self, scope: str) -> None:
        super().__init__(403, f"This request requires the scope {scope}, which your API key does not have")

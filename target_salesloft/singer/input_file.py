"""The option `--input`: a file to read, at a path or a URL."""

from __future__ import annotations

from typing import IO, Any
from urllib.parse import urlsplit

import click

from target_salesloft.redaction import redact_secrets
from target_salesloft.singer.batch import file_name
from target_salesloft.storage import is_remote, open_remote


class InputFile(click.File):
    """A file at a path or a URL that fsspec supports. Errors show no credentials or queries of the URL."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> IO[Any]:
        try:
            if not isinstance(value, str) or not is_remote(value):
                return super().convert(value, param, ctx)
            return open_remote(value)
        except OSError as error:
            self.fail(f"'{file_name(value)}': {redact_secrets(error.strerror or '', *_secrets(value))}", param, ctx)
        except ValueError:
            self.fail(f"'{file_name(value)}': not a valid URL", param, ctx)


def _secrets(url: str) -> list[str]:
    """Return the parts of a URL that must not be shown, and the whole URL."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return [url]
    return [url, *filter(None, (parts.query, parts.netloc.rpartition("@")[0], parts.password, parts.username))]

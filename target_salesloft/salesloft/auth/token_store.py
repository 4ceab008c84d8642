"""Stores the rotated OAuth token between runs."""

from __future__ import annotations

import itertools
import logging
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import filelock
import msgspec
import platformdirs

from target_salesloft.clock import Clock
from target_salesloft.exceptions import RunCancelledError, TokenStoreError
from target_salesloft.salesloft.auth.token import LOGIN_COMMAND, StoredToken, fingerprint
from target_salesloft.storage import write_atomically
from target_salesloft.urls import host_of

logger = logging.getLogger(__name__)

FORMAT_VERSION: Final = 1
LOCK_POLL_SECONDS: Final = 0.1
FILE_MODE: Final = 0o600
DIRECTORY_MODE: Final = 0o700


class FileTokenStore:
    """A JSON file that only its owner can read or write, and that is replaced atomically."""

    def __init__(self, path: Path, clock: Clock, lock_timeout: float) -> None:
        # Follow a link, so that its target is replaced and not the link.
        self.path = Path(os.path.realpath(path.expanduser()))
        self.description = str(self.path)
        self._clock = clock
        self._lock_timeout = lock_timeout

    @staticmethod
    def default_path(application: str) -> Path:
        return platformdirs.user_state_path("target-salesloft") / f"{application}.json"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the file for other processes with a lock file next to it, which is not deleted."""
        lock = filelock.FileLock(f"{self.path}.lock", mode=FILE_MODE, thread_local=False)
        with self._io_errors():
            self.path.parent.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
        wait_for_lock(lambda: self._acquired(lock), lock.lock_file, self._clock, self._lock_timeout)
        try:
            yield
        finally:
            lock.release()

    def _acquired(self, lock: filelock.BaseFileLock) -> bool:
        with self._io_errors():
            try:
                lock.acquire(blocking=False)
            except filelock.Timeout:
                return False
            return True

    def read(self) -> StoredToken | None:
        """Return the stored token, or None. A corrupt file is moved away and reported."""
        with self._io_errors():
            if self.path.is_char_device():  # such as /dev/null, which root could move away
                raise self._foreign_file_error()
            try:
                with self.path.open("rb") as file:
                    self._check_owner(os.fstat(file.fileno()))
                    content = file.read()
            except FileNotFoundError:
                return None
        try:
            return decode_token(content, self.description)
        except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError):
            if is_foreign_file(content):
                raise self._foreign_file_error() from None
            candidates = (Path(f"{self.path}.damaged-{number}") for number in itertools.count(1))
            with self._io_errors():
                moved_to = self.path.rename(next(each for each in candidates if not each.exists()))
        logger.warning(
            "Token store %s is corrupt; moved to %s. If no other token works, authorize again with %s.",
            self.path,
            moved_to,
            LOGIN_COMMAND,
            extra={"code": "SL016"},
        )
        return None

    def _check_owner(self, status: os.stat_result) -> None:
        """Reject a file that other users may have written: its token may belong to another Salesloft user."""
        mode = stat.S_IMODE(status.st_mode)
        if status.st_uid != os.geteuid():
            problem = f"belongs to another user (uid {status.st_uid})"
        elif mode & (stat.S_IWGRP | stat.S_IWOTH):
            problem = f"can be written by other users (mode {mode:o})"
        else:
            return
        raise TokenStoreError(
            f"Token store {self.path} {problem} and is not used. If its content can be trusted, "
            "change its owner and mode (chmod 600); otherwise delete it, and authorize again with "
            f"{LOGIN_COMMAND}."
        )

    def write(self, stored: StoredToken) -> None:
        """Replace the stored token, and return once it is on disk."""
        with self._io_errors():
            write_atomically(self.path, encode_token(stored))

    def check_writable(self) -> None:
        """Check that an existing file is a token file, and that its directory is writable."""
        self.read()
        with self._io_errors():
            tempfile.TemporaryFile(dir=self.path.parent).close()

    def _foreign_file_error(self) -> TokenStoreError:
        return TokenStoreError(
            f"token_path {self.path} is not a token file. Set it to a path that is used for nothing else."
        )

    @contextmanager
    def _io_errors(self) -> Iterator[None]:
        try:
            yield
        except (OSError, NotImplementedError) as error:
            reason = (isinstance(error, OSError) and error.strerror) or type(error).__name__
            raise TokenStoreError(
                f"Token store {self.path} cannot be used ({reason}). Make its directory writable for this user, or set "
                "token_path to a file in a writable directory; in a container, mount the directory and not the file."
            ) from error


def application_name(client_id: str, api_url: str) -> str:
    host = host_of(api_url).replace(":", "_")
    return f"{host}-{fingerprint(client_id)[:16]}"


def encode_token(stored: StoredToken) -> bytes:
    return msgspec.json.encode({"version": FORMAT_VERSION, **msgspec.to_builtins(stored)})


def decode_token(content: bytes, description: str) -> StoredToken:
    stored = msgspec.json.decode(content, type=dict[str, Any])
    version = stored.pop("version", None)
    if not isinstance(version, int) or version < 1:
        raise msgspec.ValidationError("invalid version")
    if version > FORMAT_VERSION:
        raise TokenStoreError(
            f"Token store {description} was written by a newer version of target-salesloft "
            f"(format {version}, expected {FORMAT_VERSION}). Upgrade target-salesloft."
        )
    return msgspec.convert(stored, StoredToken)


def wait_for_lock(acquire: Callable[[], bool], name: str, clock: Clock, timeout: float) -> None:
    """Try to acquire a lock until it succeeds. A blocking wait could not be stopped, or tested with a fake clock."""
    deadline = clock.now() + timeout
    is_waiting = False
    while not acquire():
        if not is_waiting:
            logger.info("Waiting for another process that refreshes the OAuth token (lock: %s).", name)
            is_waiting = True
        if clock.stopped:
            raise RunCancelledError("Cancelled while waiting for the token store.")
        if clock.now() >= deadline:
            raise TokenStoreError(
                f"Token store lock {name} has been held by another process for {timeout:.0f} s (max_retry_seconds). "
                "Stop that process or wait for it, then run again."
            )
        clock.wait_until(clock.now() + LOCK_POLL_SECONDS)


def is_foreign_file(content: bytes) -> bool:
    """Return whether a file that cannot be decoded is not a token file at all, such as a settings file."""
    try:
        found = msgspec.json.decode(content, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return bool(found) and "seed_digest" not in found

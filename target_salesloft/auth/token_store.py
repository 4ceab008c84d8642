"""The file that keeps a rotated OAuth token from run to run."""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
import urllib.parse
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import filelock
import msgspec
import platformdirs

from target_salesloft.auth.token import StoredToken
from target_salesloft.exceptions import RunCancelledError, TokenStoreError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from target_salesloft.clock import Clock

logger = logging.getLogger(__name__)

LOCK_POLL: Final = 0.1
FILE_MODE: Final = 0o600
DIRECTORY_MODE: Final = 0o700


def fingerprint(secret: str) -> str:
    """Return what tells one secret from another, and tells nothing of either: they are long and random."""
    return hashlib.sha256(secret.encode()).hexdigest()


class TokenStore:
    """One file, readable by its owner alone, replaced as a whole.

    Args:
        path: The file; a link is followed, so that what it names is replaced and not the link.
        clock: Tells the time, and waits.
        lock_timeout: Seconds to wait for other processes that refresh the same token.
    """

    def __init__(self, path: Path, clock: Clock, lock_timeout: float) -> None:
        self.path = Path(os.path.realpath(path.expanduser()))
        self._clock = clock
        self._lock_timeout = lock_timeout

    @staticmethod
    def default_path(client_id: str, api_url: str) -> Path:
        """Return the file of an application and an API host, in the user's state directory."""
        host = urllib.parse.urlsplit(api_url).netloc.rpartition("@")[2].replace(":", "_")
        return platformdirs.user_state_path("target-salesloft") / f"{host}-{fingerprint(client_id)[:16]}.json"

    def exists(self) -> bool:
        """Whether anything is kept, in whatever condition.

        Raises:
            TokenStoreError: This user may not know.
        """
        try:
            self.path.stat()
        except FileNotFoundError:
            return False
        except OSError as fault:
            raise self._io_error(fault) from fault
        return True

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from the store; the lock is a file beside it, which stays.

        Raises:
            TokenStoreError: The lock cannot be had.
            RunCancelledError: The run was told to end meanwhile.
        """
        lock = filelock.FileLock(f"{self.path}.lock", mode=FILE_MODE, thread_local=False)
        self._make_directory()
        if not self._acquired(lock):
            logger.info("Waiting for another process, which renews the OAuth token and holds %s.", lock.lock_file)
            self._wait_for(lock)
        try:
            yield
        finally:
            lock.release()

    def _wait_for(self, lock: filelock.BaseFileLock) -> None:
        # Its own waiting neither ends upon a signal nor passes in a test's time.
        give_up_at = self._clock.now() + self._lock_timeout
        while not self._acquired(lock):
            if self._clock.stopped:
                raise RunCancelledError("no token is asked for any more.")
            if self._clock.now() >= give_up_at:
                raise TokenStoreError(
                    f"Another process has held {lock.lock_file} for {self._lock_timeout:.0f} s (max_retry_seconds). "
                    "End it, or wait for it, and run again."
                )
            self._clock.wait_until(self._clock.now() + LOCK_POLL)

    def _acquired(self, lock: filelock.BaseFileLock) -> bool:
        try:
            lock.acquire(blocking=False)
        except filelock.Timeout:
            return False
        except (OSError, NotImplementedError) as fault:
            raise self._io_error(fault) from fault
        return True

    def read(self) -> StoredToken | None:
        """Return what is kept, or None; a damaged file is reported and set aside, never overwritten.

        Raises:
            TokenStoreError: The file cannot be read, or not be set aside.
        """
        try:
            if self.path.is_char_device():  # /dev/null, say, which root could set aside
                raise self._foreign_file_error()
            content = self.path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as fault:
            raise self._io_error(fault) from fault
        try:
            return msgspec.json.decode(content, type=StoredToken)
        except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError):
            if is_foreign_file(content):
                raise self._foreign_file_error() from None
            aside = self._quarantine()
        logger.warning(
            "The token store %s is damaged; it has been set aside as %s. If no other token works, authorize again with "
            "`target-salesloft-auth login`.",
            self.path,
            aside,
        )
        return None

    def write(self, kept: StoredToken) -> None:
        """Replace what is kept, and return when the disk has it.

        Raises:
            TokenStoreError: The file cannot be written.
        """
        try:
            temporary = self._temporary(msgspec.json.encode(kept))
            try:
                temporary.replace(self.path)
            except OSError:
                temporary.unlink(missing_ok=True)
                raise
            sync_directory(self.path.parent)
        except OSError as fault:
            raise self._io_error(fault) from fault

    def check_writable(self) -> None:
        """Replace the file by itself, or write one beside it where there is none yet.

        Raises:
            TokenStoreError: The file could not be written either.
        """
        kept = self.read()
        if kept is not None:
            self.write(kept)
            return
        try:
            self._temporary(b"").unlink()
        except OSError as fault:
            raise self._io_error(fault) from fault

    def _temporary(self, content: bytes) -> Path:
        # mkstemp makes files for their owner alone.
        number, name = tempfile.mkstemp(prefix=f".{self.path.name}.", dir=self.path.parent)
        try:
            with os.fdopen(number, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            Path(name).unlink(missing_ok=True)
            raise
        return Path(name)

    def _make_directory(self) -> None:
        try:
            self.path.parent.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
        except OSError as fault:
            raise self._io_error(fault) from fault

    def _quarantine(self) -> Path:
        number = 1
        while (aside := Path(f"{self.path}.damaged-{number}")).exists():
            number += 1
        try:
            return self.path.rename(aside)
        except OSError as fault:
            raise self._io_error(fault) from fault

    def _foreign_file_error(self) -> TokenStoreError:
        return TokenStoreError(f"token_path names {self.path}, which is no token store. Set it to a file of its own.")

    def _io_error(self, fault: OSError | NotImplementedError) -> TokenStoreError:
        why = (isinstance(fault, OSError) and fault.strerror) or type(fault).__name__
        return TokenStoreError(
            f"The token store {self.path} cannot be used ({why}). Give this user a directory that can be written, or "
            "set token_path to a file in one; in a container mount the directory, not the file."
        )


def is_foreign_file(content: bytes) -> bool:
    """Whether a file that is no token store never was one, such as a file of settings."""
    try:
        found = msgspec.json.decode(content, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return bool(found) and "seed_digest" not in found


def sync_directory(directory: Path) -> None:
    """Have the disk remember which file a name means."""
    number = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)

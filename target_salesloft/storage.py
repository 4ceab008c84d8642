"""Output files: on the local disk, or in an object store that fsspec knows by its URL."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import io
import itertools
import os
import re
import stat
import tempfile
import uuid
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, TypeAlias, cast
from urllib.parse import urlsplit

from target_salesloft.exceptions import ConfigError
from target_salesloft.redaction import sanitize_line

if TYPE_CHECKING:
    from upath import UPath

REMOTE: Final = re.compile(r"[a-z][a-z0-9+.-]*:/{1,2}[^/]", re.IGNORECASE)
EXTRAS: Final = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs", "az": "azure", "abfs": "azure", "abfss": "azure"}
QUERY: Final = re.compile(r"\?\S*")
MAX_OBJECT_BYTES: Final = 8 * 2**20
"""An object that is larger is continued in a new one: an object store cannot append, so all of it is sent again."""
OutputFile: TypeAlias = "LocalFile | ObjectFile"
Storage: TypeAlias = "LocalDirectory | ObjectStore"
"""Where files are written. All methods raise OSError if they fail."""


def is_remote(location: str) -> bool:
    return REMOTE.match(location) is not None and urlsplit(location).scheme not in {"file", "local"}


def open_storage(location: str) -> Storage:
    """Return a directory, or for a URL that fsspec knows (`s3://bucket/prefix`) a prefix of an object store."""
    return ObjectStore(location) if is_remote(location) else LocalDirectory(local_path(location))


def open_writable(setting: str, location: str) -> Storage:
    """Return a storage in which files can be created, or raise a ConfigError that names the setting."""
    try:
        storage = open_storage(location)
        storage.check()
    except OSError as error:
        extra = EXTRAS.get(urlsplit(location).scheme)
        if isinstance(error.__cause__, ImportError) and extra:
            raise ConfigError(
                f"Invalid value for {setting}: {location!r} needs the extra {extra}. Install target-salesloft[{extra}]."
            ) from error
        advice = (
            "Check the URL, the credentials and their permission to write."
            if is_remote(location)
            else "Set it to a place where files can be created."
        )
        raise ConfigError(f"Invalid value for {setting}: {error.strerror}. {advice}") from error
    return storage


def open_remote(location: str) -> IO[bytes]:
    with storage_errors():
        return buffered(_remote_path(location).open("rb"))


def exists(location: str) -> bool:
    if not is_remote(location):
        path = local_path(location)
        path.parent.stat()  # without its directory, the file may be on another machine
        return path.exists()
    with storage_errors():
        remote = _remote_path(location)
        try:
            remote.fs.info(remote.path)  # its `exists` takes a store that does not answer for a missing file
        except FileNotFoundError:
            return False
    return True


def _remote_path(location: str) -> UPath:
    from upath import UPath  # noqa: PLC0415 (takes a moment, which local files need not spend)

    return UPath(location)


def buffered(file: Any) -> IO[bytes]:
    """Return a file that can be read line by line up to a length, which those of fsspec cannot."""
    return cast("IO[bytes]", file if isinstance(file, io.BufferedReader) else io.BufferedReader(file))


def local_path(location: str) -> Path:
    """Return the path of a local location, which may be a `file://` URL."""
    parts = urlsplit(location)
    return Path(parts.path if parts.scheme in {"file", "local"} else location).expanduser()


def absolute(location: str) -> str:
    """Return a location that does not depend on the current directory."""
    return location if is_remote(location) else str(local_path(location).absolute())


def split(location: str) -> tuple[str, str]:
    """Return the directory and the name of a file, or raise a ValueError if it names none."""
    directory, _, name = location.rpartition("/")
    if name in {"", ".", ".."} or location == "-" or directory.endswith(":/"):
        raise ValueError("names no file")
    return (directory or ("/" if location.startswith("/") else ".")), name


# Local files


class LocalFile:
    """A file on the disk to which only this process appends, as long as its descriptor is open."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.location = str(path)  # as messages show it
        self._path = path
        self._descriptor = descriptor
        self._close = weakref.finalize(self, os.close, descriptor)

    @property
    def is_full(self) -> bool:
        """Whether to continue in a new file, because somebody has moved or deleted this one."""
        try:
            return not os.path.samestat(os.fstat(self._descriptor), self._path.stat())
        except OSError:
            return True

    def append(self, data: bytes) -> None:
        """Append whole lines with one write, so that an interrupted process leaves whole lines. They are synced."""
        end = os.lseek(self._descriptor, 0, os.SEEK_END)
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
            os.fsync(self._descriptor)
        except OSError:  # the disk may be full for a part of them only
            os.ftruncate(self._descriptor, end)
            os.lseek(self._descriptor, end, os.SEEK_SET)
            raise

    def close(self) -> None:
        """Let other runs read and delete the file."""
        self._close()


def _open_locked(path: Path) -> int:
    """Return the descriptor of a locked regular file, which is created if it does not exist."""
    while True:
        if path.exists() and not path.is_file():
            raise OSError(errno.EINVAL, "not a regular file")
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, mode=0o600)
        try:
            _lock(descriptor)
            if os.path.samestat(os.fstat(descriptor), path.stat()):  # not replaced meanwhile
                return descriptor
        except FileNotFoundError:
            pass
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _lock(descriptor: int, kind: int = fcntl.LOCK_EX) -> None:
    """Lock a file until the process closes it or ends; file systems without locks are used without."""
    try:
        fcntl.lockf(descriptor, kind | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in {errno.EACCES, errno.EAGAIN}:
            raise BlockingIOError(errno.EAGAIN, "another run is writing to it") from error


class LocalDirectory:
    """A directory on the disk, created when the first file is. Only the owner can read the files."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def check(self) -> None:
        """Check that files can be created, and leave nothing behind."""
        existing = self._path.absolute()
        try:
            while not existing.exists():
                existing = existing.parent
            tempfile.TemporaryFile(dir=existing).close()
        except OSError as error:
            raise OSError(error.errno, f"cannot write to {existing} ({error.strerror})") from error

    def create(self, stem: str, suffix: str) -> LocalFile:
        """Create a file that only its owner can read; a number is added to a name that exists."""
        ignore_in_git(self._path)
        for number in itertools.count(1):
            path = self._path / f"{stem}{f'-{number}' if number > 1 else ''}{suffix}"
            try:
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, mode=0o600)
            except FileExistsError:  # by another container, whose process has the same id
                continue
            _lock(descriptor)
            return LocalFile(path, descriptor)
        raise AssertionError  # pragma: no cover

    def overwrite(self, name: str) -> LocalFile:
        """Create an empty file in place of an existing one, unless another process has that open with this method."""
        self._path.mkdir(parents=True, exist_ok=True)
        path = (self._path / name).resolve()
        existing = _open_locked(path)
        try:
            # Whoever reads the existing file reads it to its end.
            number, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
            _lock(number)
            Path(temporary).replace(path)
        finally:
            os.close(existing)
        return LocalFile(self._path / name, number)

    def replace(self, name: str, data: bytes) -> None:
        """Write a temporary file next to the file, and rename it."""
        self._path.mkdir(parents=True, exist_ok=True)
        path = (self._path / name).resolve()
        if path.exists() and not path.is_file():
            raise OSError(errno.EINVAL, "not a regular file")
        write_atomically(path, data)

    def list_names(self) -> list[str]:
        """Return the names of the files; none if there is no directory."""
        return [each.name for each in self._path.iterdir()] if self._path.is_dir() else []

    def is_in_use(self, name: str) -> bool:
        """Whether another process has a file locked. The lock of a killed one is gone."""
        try:
            with self.open(name) as file:
                _lock(file.fileno(), fcntl.LOCK_SH)
        except BlockingIOError:
            return True
        except OSError:
            pass  # reading or deleting the file reports the error
        return False

    def open(self, name: str) -> IO[bytes]:
        """Open a regular file for reading; a pipe, which might never have data, is an error."""
        descriptor = os.open(self._path / name, os.O_RDONLY | os.O_NONBLOCK)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise OSError(errno.EINVAL, "not a regular file")
        return os.fdopen(descriptor, "rb")

    def delete(self, name: str) -> None:
        """Delete a file, unless another run has done so."""
        (self._path / name).unlink(missing_ok=True)


def write_atomically(path: Path, data: bytes) -> None:
    """Replace a file, which only its owner can read, as a whole; it is on the disk when this returns."""
    number, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(number, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    with contextlib.suppress(OSError):  # some file systems cannot sync directories
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)  # so that the rename survives a crash
        finally:
            os.close(directory)


def ignore_in_git(directory: Path) -> None:
    """Create a directory with a `.gitignore`, unless it has one: its files hold personal data."""
    existed = directory.is_dir()
    directory.mkdir(parents=True, exist_ok=True)  # another run may create it at the same time
    with contextlib.suppress(FileExistsError), (directory / ".gitignore").open("x", encoding="utf-8") as file:
        file.write("*.singer\n" if existed else "*\n")


# Object stores


class ObjectFile:
    """An object in a store, which is sent again as a whole when something is appended."""

    def __init__(self, path: UPath) -> None:
        self.location = str(path)
        self._path = path
        self._data = b""

    @property
    def is_full(self) -> bool:
        """Whether sending all of it again has become expensive."""
        return len(self._data) >= MAX_OBJECT_BYTES

    def append(self, data: bytes) -> None:
        with storage_errors():
            self._path.fs.pipe_file(self._path.path, self._data + data)
        self._data += data

    def close(self) -> None:
        """Do nothing: stores have no locks."""


class ObjectStore:
    """A prefix in an object store. Credentials come from where the store's fsspec package looks for them."""

    def __init__(self, location: str) -> None:
        with storage_errors():
            self._path = _remote_path(location)
            _ = self._path.fs

    def check(self) -> None:
        """Write an object and delete it, if that is permitted."""
        path = self._path / f".target-salesloft-{uuid.uuid4().hex}"
        with storage_errors():
            path.fs.pipe_file(path.path, b"")
        with contextlib.suppress(Exception):  # writing is all that is needed
            path.fs.rm_file(path.path)

    def create(self, stem: str, suffix: str) -> ObjectFile:
        """Return a new object; it exists once something is appended."""
        # Processes in containers share ids, and an object that another run creates is replaced.
        return ObjectFile(self._path / f"{stem}-{uuid.uuid4().hex[:8]}{suffix}")

    def overwrite(self, name: str) -> ObjectFile:
        """Return an object that replaces an existing one once something is appended."""
        return ObjectFile(self._path / name)

    def replace(self, name: str, data: bytes) -> None:
        """Write an object, which stores do as a whole."""
        self.overwrite(name).append(data)

    def list_names(self) -> list[str]:
        with storage_errors():
            self._path.fs.invalidate_cache()
            try:
                found = self._path.fs.ls(self._path.path, detail=False)
            except FileNotFoundError:
                return []
        return [each.rpartition("/")[2] for each in found]

    def is_in_use(self, name: str) -> bool:  # noqa: ARG002 (stores have no locks)
        return False

    def open(self, name: str) -> IO[bytes]:
        """Fetch an object, which is not large."""
        path = self._path / name
        with storage_errors():
            return io.BytesIO(path.fs.cat_file(path.path))

    def delete(self, name: str) -> None:
        path = self._path / name
        with storage_errors(), contextlib.suppress(FileNotFoundError):
            path.fs.rm_file(path.path)


@contextlib.contextmanager
def storage_errors() -> Iterator[None]:
    """Turn whatever an object store raises into an OSError whose text may be shown."""
    try:
        yield
    except Exception as error:
        text = QUERY.sub("", str(error))  # a signature may be in a query
        raise OSError(errno.EIO, sanitize_line(f"{type(error).__name__}: {text}")) from error

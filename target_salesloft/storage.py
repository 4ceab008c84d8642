"""Output files on the local disk, or in an object store that fsspec supports."""

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
"""Larger objects are continued in a new one: object stores can't append, so the whole object is sent again."""
OutputFile: TypeAlias = "LocalFile | ObjectFile"
Storage: TypeAlias = "LocalDirectory | ObjectStore"
"""A place to write files. All methods raise OSError if they fail."""


def is_remote(location: str) -> bool:
    return REMOTE.match(location) is not None and urlsplit(location).scheme not in {"file", "local"}


def open_storage(location: str) -> Storage:
    """Return a directory or, for a URL such as `s3://bucket/prefix`, a prefix in an object store."""
    return ObjectStore(location) if is_remote(location) else LocalDirectory(local_path(location))


def open_writable(setting: str, location: str) -> Storage:
    """Return a writable storage, or raise a ConfigError that names the setting."""
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
        path.parent.stat()  # if the directory is missing, the file may be on another machine
        return path.exists()
    with storage_errors():
        remote = _remote_path(location)
        try:
            remote.fs.info(remote.path)  # `exists` would return False if the store is unreachable
        except FileNotFoundError:
            return False
    return True


def _remote_path(location: str) -> UPath:
    from upath import UPath  # noqa: PLC0415 (slow, and not needed for local files)

    return UPath(location)


def buffered(file: Any) -> IO[bytes]:
    """Return a buffered reader, whose methods fsspec's files may lack."""
    return cast("IO[bytes]", file if isinstance(file, io.BufferedReader) else io.BufferedReader(file))


def local_path(location: str) -> Path:
    """Return the path of a local location, which may be a `file://` URL."""
    parts = urlsplit(location)
    return Path(parts.path if parts.scheme in {"file", "local"} else location).expanduser()


def absolute(location: str) -> str:
    """Return a location that does not depend on the current directory."""
    return location if is_remote(location) else str(local_path(location).absolute())


def split(location: str) -> tuple[str, str]:
    """Return the directory and the name of a file, or raise a ValueError if there is no name."""
    directory, _, name = location.rpartition("/")
    if name in {"", ".", ".."} or location == "-" or directory.endswith(":/"):
        raise ValueError("names no file")
    return (directory or ("/" if location.startswith("/") else ".")), name


# Local files


class LocalFile:
    """A local file, to which only this process appends while its descriptor is open."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.location = str(path)  # for messages
        self._path = path
        self._descriptor = descriptor
        self._close = weakref.finalize(self, os.close, descriptor)

    @property
    def is_full(self) -> bool:
        """Whether to continue in a new file, because this one was moved or deleted."""
        try:
            return not os.path.samestat(os.fstat(self._descriptor), self._path.stat())
        except OSError:
            return True

    def append(self, data: bytes) -> None:
        """Append whole lines at once, so that an interrupted process leaves no partial lines, and sync the file."""
        end = os.lseek(self._descriptor, 0, os.SEEK_END)
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
            os.fsync(self._descriptor)
        except OSError:  # a full disk may have taken a part of them
            os.ftruncate(self._descriptor, end)
            os.lseek(self._descriptor, end, os.SEEK_SET)
            raise

    def close(self) -> None:
        """Let other runs read and delete the file."""
        self._close()


def _open_locked(path: Path) -> int:
    """Open and lock a regular file, or create it, and return its descriptor."""
    while True:
        if path.exists() and not path.is_file():
            raise OSError(errno.EINVAL, "not a regular file")
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, mode=0o600)
        try:
            _lock(descriptor)
            if os.path.samestat(os.fstat(descriptor), path.stat()):  # not replaced in the meantime
                return descriptor
        except FileNotFoundError:
            pass
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _lock(descriptor: int, kind: int = fcntl.LOCK_EX) -> None:
    """Lock a file until the process closes it or ends. On file systems without locks, do nothing."""
    try:
        fcntl.lockf(descriptor, kind | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in {errno.EACCES, errno.EAGAIN}:
            raise BlockingIOError(errno.EAGAIN, "another run is writing to it") from error


class LocalDirectory:
    """A local directory, created with the first file. Only the owner can read the files."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def check(self) -> None:
        """Check that files can be created, without leaving any behind."""
        existing = self._path
        try:
            existing = existing.absolute()
            while not existing.exists():
                existing = existing.parent
            tempfile.TemporaryFile(dir=existing).close()
        except OSError as error:
            raise OSError(error.errno, f"cannot write to {existing} ({error.strerror})") from error

    def create(self, stem: str, suffix: str) -> LocalFile:
        """Create a file that only its owner can read. If the name exists, a number is added."""
        ignore_in_git(self._path)
        for number in itertools.count(1):
            path = self._path / f"{stem}{f'-{number}' if number > 1 else ''}{suffix}"
            try:
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, mode=0o600)
            except FileExistsError:  # from another container, whose process has the same id
                continue
            _lock(descriptor)
            return LocalFile(path, descriptor)
        raise AssertionError  # pragma: no cover

    def overwrite(self, name: str) -> LocalFile:
        """Replace a file with an empty one, unless another process has opened it with this method."""
        self._path.mkdir(parents=True, exist_ok=True)
        path = (self._path / name).resolve()
        existing = _open_locked(path)
        try:
            # Processes that are reading the existing file can finish.
            number, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
            _lock(number)
            Path(temporary).replace(path)
        finally:
            os.close(existing)
        return LocalFile(self._path / name, number)

    def replace(self, name: str, data: bytes) -> None:
        """Replace a file atomically."""
        self._path.mkdir(parents=True, exist_ok=True)
        path = (self._path / name).resolve()
        if path.exists() and not path.is_file():
            raise OSError(errno.EINVAL, "not a regular file")
        write_atomically(path, data)

    def list_names(self) -> list[str]:
        """Return the names of the files. A missing directory has none."""
        return [each.name for each in self._path.iterdir()] if self._path.is_dir() else []

    def is_in_use(self, name: str) -> bool:
        """Return whether another running process has locked a file."""
        try:
            with self.open(name) as file:
                _lock(file.fileno(), fcntl.LOCK_SH)
        except BlockingIOError:
            return True
        except OSError:
            pass  # reading or deleting the file reports the error
        return False

    def open(self, name: str) -> IO[bytes]:
        """Open a regular file for reading. Anything else is an error: a pipe might never have data."""
        descriptor = os.open(self._path / name, os.O_RDONLY | os.O_NONBLOCK)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise OSError(errno.EINVAL, "not a regular file")
        return os.fdopen(descriptor, "rb")

    def delete(self, name: str) -> None:
        """Delete a file, unless another run has already done so."""
        (self._path / name).unlink(missing_ok=True)


def write_atomically(path: Path, data: bytes) -> None:
    """Replace a file atomically with one that only its owner can read, and sync it."""
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
    """Create a directory with a `.gitignore`, because its files contain personal data."""
    existed = directory.is_dir()
    directory.mkdir(parents=True, exist_ok=True)  # another run may create it at the same time
    with contextlib.suppress(FileExistsError), (directory / ".gitignore").open("x", encoding="utf-8") as file:
        file.write("*.singer\n" if existed else "*\n")


# Object stores


class ObjectFile:
    """An object in a store. Each append sends the whole object again."""

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
        """Do nothing, because stores have no locks."""


class ObjectStore:
    """A prefix in an object store. The store's fsspec package finds the credentials."""

    def __init__(self, location: str) -> None:
        with storage_errors():
            self._path = _remote_path(location)
            _ = self._path.fs

    def check(self) -> None:
        """Check that an object can be written, and delete it if that is permitted."""
        path = self._path / f".target-salesloft-{uuid.uuid4().hex}"
        with storage_errors():
            path.fs.pipe_file(path.path, b"")
        with contextlib.suppress(Exception):  # only writing is required
            path.fs.rm_file(path.path)

    def create(self, stem: str, suffix: str) -> ObjectFile:
        """Return a new object, which is created by the first append."""
        # Process ids are not unique across containers, so a random name is needed to not replace another run's object.
        return ObjectFile(self._path / f"{stem}-{uuid.uuid4().hex[:8]}{suffix}")

    def overwrite(self, name: str) -> ObjectFile:
        """Return an object, whose first append replaces an existing one."""
        return ObjectFile(self._path / name)

    def replace(self, name: str, data: bytes) -> None:
        """Write an object. Stores do this atomically."""
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
        """Fetch an object into memory."""
        path = self._path / name
        with storage_errors():
            return io.BytesIO(path.fs.cat_file(path.path))

    def delete(self, name: str) -> None:
        path = self._path / name
        with storage_errors(), contextlib.suppress(FileNotFoundError):
            path.fs.rm_file(path.path)


@contextlib.contextmanager
def storage_errors() -> Iterator[None]:
    """Turn any exception of an object store into an OSError whose text is safe to show."""
    try:
        yield
    except Exception as error:
        text = QUERY.sub("", str(error))  # a signature may be in a query
        raise OSError(errno.EIO, sanitize_line(f"{type(error).__name__}: {text}")) from error

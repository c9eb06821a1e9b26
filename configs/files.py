"""Check whether files exist, and write files so that readers never see incomplete content."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from configs.private_files import make_private_folder

__all__ = ["exists", "is_file", "naming_errors", "replaced_file", "write_file"]


def write_file(
    path: Path, content: bytes | str, *, mode: int | None = None, durable: bool = False
) -> None:
    """Write a file as a whole: a reader sees the old content or the new one, never a part.

    The content goes through the descriptor of a newly created file, which is never opened by its
    name. A link that somebody puts in its place is therefore not followed. If the content cannot
    be written, `path` is not changed.

    Args:
        path: file to write; a missing folder is created, for its owner only if `mode` lets only
            the owner read the file.
        content: a text is written as UTF-8.
        mode: permissions of the new file from its creation on; None for the default permissions.
        durable: whether to wait until the content and the name are on the disk, so that both
            survive a power cut.

    Raises:
        OSError: the file cannot be written; the error names a file.
    """
    data = content.encode() if isinstance(content, str) else content
    partial, descriptor = _create_partial(path, ".part", mode)
    try:
        with naming_errors(path), os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            _finish(descriptor, mode, durable=durable)
        _put_in_place(partial, path, durable=durable)
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def replaced_file(
    path: Path,
    *,
    mode: int | None = None,
    durable: bool = False,
    overwrite: bool = True,
    suffix: str = ".part",
) -> Iterator[Path]:
    """Yield the path of a partial file; when the block ends, this file replaces `path`.

    For libraries that open files by name; `write_file` is safer where others may write to the
    folder. If the block fails, `path` is not changed and the partial file is removed. The partial
    file is in the same folder as `path`. One that a killed process left is overwritten.

    Args:
        path: file to write; a missing folder is created, as by `write_file`.
        mode: permissions of the new file, set before anything is written to it; None for the
            default permissions.
        durable: whether to wait until the content and the name are on the disk, so that both
            survive a power cut.
        overwrite: whether a file at `path` is replaced.
        suffix: ending that is appended to `path` to name the partial file.

    Raises:
        FileExistsError: something exists at `path`, and `overwrite` is false.
        OSError: the file cannot be written; the error names a file.
    """
    partial, descriptor = _create_partial(path, suffix, mode)
    os.close(descriptor)
    try:
        with naming_errors(path):
            yield partial
        if mode is not None or durable:
            # Some libraries replace the partial file by a new one; a link is refused.
            descriptor = os.open(partial, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                _finish(descriptor, mode, durable=durable)
            finally:
                os.close(descriptor)
        _put_in_place(partial, path, durable=durable, overwrite=overwrite)
    finally:
        partial.unlink(missing_ok=True)


def _create_partial(path: Path, suffix: str, mode: int | None) -> tuple[Path, int]:
    """Create the partial file of `path`; return its path and an open descriptor."""
    if mode is not None and mode & 0o077 == 0:
        make_private_folder(path.parent)
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + suffix)
    try:
        return partial, _create_new(partial, mode)
    except (FileExistsError, IsADirectoryError, PermissionError) as error:
        # What has this name may be a folder, or a file of another user that cannot be removed.
        partial = path.with_name(f"{path.name}.{secrets.token_hex(8)}{suffix}")
        try:
            return partial, _create_new(partial, mode)
        except OSError:
            raise error from None


def _create_new(partial: Path, mode: int | None) -> int:
    """Create a file that did not exist, and no link leads to; return its descriptor."""
    partial.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    return os.open(partial, flags, 0o666 if mode is None else mode)


def _finish(descriptor: int, mode: int | None, *, durable: bool) -> None:
    if mode is not None:
        os.fchmod(descriptor, mode)  # the umask may have taken permissions away
    if durable:
        os.fsync(descriptor)


def _put_in_place(
    partial: Path, path: Path, *, durable: bool = False, overwrite: bool = True
) -> None:
    if overwrite:
        partial.replace(path)
    else:
        _put_beside(partial, path)
    if durable:
        with contextlib.suppress(OSError):  # some file systems cannot sync a folder
            _sync(path.parent)


def _put_beside(partial: Path, path: Path) -> None:
    """Give a partial file its name if nothing else has that name."""
    try:
        os.link(partial, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
        partial.rename(path)


@contextlib.contextmanager
def naming_errors(path: Path) -> Iterator[None]:
    """Inside the `with` block, give the name of `path` to every `OSError` that names no file.

    Python names the file if it cannot be opened, but not if the disk becomes full later.
    """
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            with contextlib.suppress(AttributeError):  # FFmpeg's errors cannot be changed
                error.filename = str(path)
        raise


def is_file(path: str | Path) -> bool:
    """Return whether a file exists at this path.

    An invalid path, such as a too long one or one with a zero byte, gives False.
    """
    with contextlib.suppress(OSError, ValueError):
        return Path(path).is_file()
    return False


def exists(path: str | Path) -> bool:
    """Return whether a file, folder, pipe or device exists at this path."""
    with contextlib.suppress(OSError, ValueError):
        return Path(path).exists()
    return False


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

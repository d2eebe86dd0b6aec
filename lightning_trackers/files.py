"""Files that are either whole or not there."""

import errno
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Lend a temporary path that becomes ``path`` when the block ends without an error.

    Whoever is interrupted, or runs out of disk, leaves the earlier file (or none), never half of
    one. The folder is made if missing.

    Raises:
        OSError: If writing fails; where the disk is full, it says which file and what to do.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            with temporary.open("rb+") as written:
                os.fsync(written.fileno())  # a full disk may be noticed only here
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise OSError(
            error.errno,
            "the disk is full and this file was not written; free some space or choose a folder on "
            "another disk, then start again (files already written are kept)",
            str(path),
        ) from error


def write_text(path: Path, text: str) -> None:
    """Write a text file that is either whole or not there (see :func:`atomic_file`)."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def remove_leftovers(folder: Path) -> None:
    """Remove what :func:`atomic_file` left in a folder, at any depth, where a process was killed.

    Nobody else may be writing into the folder.
    """
    for temporary in folder.rglob(".*.tmp"):
        temporary.unlink(missing_ok=True)

"""Names of sequences, which toolkits spell in different ways."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from datamodules.errors import DatasetError


def matched_names(sequences: Sequence[str], files: Mapping[str, Path]) -> dict[str, Path]:
    """Return the file of each sequence that has one; spellings of toolkits count as the same.

    ``Jogging-1`` is also found as ``jogging_1``, ``Jogging.1`` or ``Jogging1``, and ``Human4-2`` as
    ``Human4`` where it is the only target of that name.

    Args:
        sequences: Names as the benchmark spells them.
        files: Files by name as a toolkit spells it.

    Raises:
        DatasetError: If two files may be meant.
    """
    spellings: dict[str, list[str]] = {}
    for name in files:
        spellings.setdefault(_plain(name), []).append(name)
    bases = [_base(name) for name in sequences]
    wanted = {_plain(name) for name in sequences}
    found = {}
    for name, base in zip(sequences, bases, strict=True):
        candidates = [name] if name in files else spellings.get(_plain(name), [])
        if not candidates and bases.count(base) == 1 and _plain(base) not in wanted:
            candidates = spellings.get(_plain(base), [])
        if len(candidates) > 1:
            raise DatasetError(
                f"{name}: two files may be meant, {' and '.join(str(files[c]) for c in candidates)}; "
                "remove one of them"
            )
        if candidates:
            found[name] = files[candidates[0]]
    return found


def _plain(name: str) -> str:
    """Return a name without what toolkits disagree on: case, and how targets are numbered."""
    return re.sub(r"[-_.\s]", "", name).lower()


def _base(name: str) -> str:
    """Return the name of the folder that a sequence with a numbered target comes from."""
    return re.sub(r"[-_.]\d$", "", name)

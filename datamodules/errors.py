"""The error of unusable data."""


class DatasetError(ValueError):
    """A dataset on disk cannot be used.

    The message names the path, what was expected there and what to do. A single bad entry of a
    dataset is no such error: readers leave it out and count it.
    """

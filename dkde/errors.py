"""The errors that a caller may want to catch.

Every message is one line: what was wrong, where, and what to do about it.
"""


class DkdeError(Exception):
    """Anything that dkde refuses or could not do."""


class InputError(DkdeError, ValueError):
    """An argument or an array that cannot be used as it is."""


class DataSetError(DkdeError):
    """A file or a store that is missing, broken, foreign or in the way."""


class MemoryLimitError(DkdeError):
    """A plan that needs more memory than a worker has."""


class ClusterError(DkdeError):
    """A scheduler or a worker that cannot be reached, or cannot see the data."""

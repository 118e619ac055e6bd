"""How many examples of a kind are tried: a fifth in the quick profile, all in the profile ci."""

from hypothesis import settings


def few(n: int) -> int:
    """Return how many of n examples the profile of this session tries.

    Profiles are in ``conftest.py``; ``--hypothesis-profile=ci`` chooses the one of ``.ci/run``.
    """
    return max(5, n * settings.default.max_examples // 100)

"""Exact kernel density estimation for data that does not fit in memory.

The public names stand in ``__init__.pyi``; each is imported when it is first used, so that
``import dkde`` is quick.
"""

import lazy_loader

from dkde.version import __version__ as __version__

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

"""interlingua: cross-lingual transfer in speech translation."""

import os
from importlib.metadata import PackageNotFoundError, version

os.environ.setdefault("LANCE_LOG", "error")  # read when lance is imported; its warnings address its developers

try:
    __version__ = version("interlingua")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"

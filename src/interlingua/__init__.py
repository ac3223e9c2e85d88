"""interlingua: cross-lingual transfer in speech translation."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("interlingua")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"

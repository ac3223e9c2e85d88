"""The index: spoken utterances on disk that are searched by speech of any language, and mined for pairs."""

from interlingua.index.build import build, collect
from interlingua.index.index import Hit, Index, search_shards

__all__ = ["Hit", "Index", "build", "collect", "search_shards"]

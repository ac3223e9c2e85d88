"""The index: spoken utterances on disk that are searched by speech of any language, and mined for pairs."""

from interlingua.index.build import build, collect
from interlingua.index.index import Hit, Index, search_shards
from interlingua.index.phrases import Phrases

__all__ = ["Hit", "Index", "Phrases", "build", "collect", "search_shards"]

"""Corpora: readers that yield utterances, near-duplicate clusters, and manifests."""

from interlingua.corpora.manifest import read_any, read_manifest, write_manifest
from interlingua.corpora.prepare import cluster_meanings, split_by_cluster
from interlingua.corpora.prompts import prepare_prompts
from interlingua.corpora.udhr import prepare_udhr

__all__ = [
    "cluster_meanings",
    "prepare_prompts",
    "prepare_udhr",
    "read_any",
    "read_manifest",
    "split_by_cluster",
    "write_manifest",
]

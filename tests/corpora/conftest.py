"""Recordings that several corpora's tests lay out."""

import pytest

import trees


@pytest.fixture(scope="package")
def spoken(tmp_path_factory):
    """Six sentences, one of which two people read in French."""
    return trees.spoken(tmp_path_factory.mktemp("spoken"))


@pytest.fixture
def clips(tmp_path):
    for name in ("a.wav", "b.wav", "sub/c.wav"):
        trees.clip(tmp_path / name)
    return tmp_path

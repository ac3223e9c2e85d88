"""Experiments: from a corpus to a result folder."""

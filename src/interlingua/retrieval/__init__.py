"""Retrieval: SeqSim, its improvements, and evaluation; importing the package loads nothing."""

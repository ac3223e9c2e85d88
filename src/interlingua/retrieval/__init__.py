"""Retrieval: SeqSim, what improves it, and how it is evaluated; importing the package loads nothing."""

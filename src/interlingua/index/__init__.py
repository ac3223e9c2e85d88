"""Search and mining: from collections of recordings to parallel speech."""

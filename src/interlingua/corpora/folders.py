"""A corpus's folders, one a language, named by its own codes."""

import os
from collections.abc import Callable
from pathlib import Path

from interlingua.errors import CorpusError, UsageError
from interlingua.languages import normalise_language


def check_folder(folder: str | Path, *, listed: bool = False) -> None:
    """Raise CorpusError if the files in a folder can't be reached or, with ``listed``, their names not be read."""
    try:
        os.stat(f"{folder}/.")  # noqa: PTH116  # a Path drops the dot, which is what asks for permission
        if listed:
            os.scandir(folder).close()
    except PermissionError as e:
        raise CorpusError(f"{folder}: this folder can't be looked into; check its permissions") from e


def language_folders(
    root: Path,
    languages: tuple[str, ...] | None,
    holds: Callable[[Path], bool],
    fetch: str,
    log: Callable[[str], None] = lambda line: None,
) -> list[tuple[Path, str]]:
    """(folder, our language code) of the languages below ``root``, in the order asked for, else by name.

    A language that is written as the folder is (``zh-TW``) means this folder alone; otherwise (``zh``) all folders of
    that language. ``root`` may also be a language's folder itself.

    Args:
        root: the corpus.
        languages: what was asked for; None: all that are there.
        holds: whether a folder holds a language of the corpus.
        fetch: what to fetch, for the message.
        log: receives a line on a folder whose language has no code here.

    Raises:
        CorpusError: nothing is there, or not a language that was asked for.
        UsageError: an unknown language.
    """
    try:
        below = sorted(p for p in root.iterdir() if p.is_dir())
    except OSError as e:
        raise CorpusError(f"{root}: no readable folder ({e.strerror}). {fetch}") from e
    there: list[tuple[Path, str]] = []
    for folder in [root] if holds(root) else [p for p in below if holds(p)]:
        try:
            there.append((folder, normalise_language(folder_name(folder))))
        except UsageError:
            log(f"{folder}: left out, for {folder.name!r} is no language code that is known here")
    if not there:
        raise CorpusError(f"{root}: no language's folder with the corpus's files is here. {fetch}")
    if languages is None:
        return there
    chosen: dict[Path, str] = {}
    for asked in languages:
        same = [(p, code) for p, code in there if _plain(folder_name(p)) == _plain(asked)]
        found = same or [(p, code) for p, code in there if code == normalise_language(asked)]
        if not found:
            names = ", ".join(folder_name(p) for p, _ in there)
            raise CorpusError(f"{root}: no {asked!r} is here, only {names}. {fetch}")
        chosen.update(found)
    return list(chosen.items())


def folder_name(folder: Path) -> str:
    """A folder's name, which says its language: a link's own, not its target's; that of ``.``, too."""
    return Path(os.path.abspath(folder)).name  # noqa: PTH100  # resolve() would follow links


def _plain(code: str) -> str:
    return code.strip().lower().replace("-", "_")

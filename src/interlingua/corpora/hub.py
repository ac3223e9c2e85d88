"""Files of a Hugging Face dataset repository, downloaded as they are: interrupted, it goes on; each is checked."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from interlingua.errors import FetchError, HashMismatchError
from interlingua.files import check_sha256


def download_files(
    repository: str,
    names: Sequence[str],
    root: Path,
    *,
    by_hand: str,
    log: Callable[[str], None] = lambda line: None,
    revision: str = "main",
) -> None:
    """Put files of a dataset below ``root``, under their own names, and check them.

    A file that is there with the size (and, where the hub tells it, the SHA-256) of the hub's stays as it is; one that
    was half fetched is continued.

    Args:
        repository: owner/name.
        names: paths in it.
        root: the folder.
        by_hand: what a person can do where the hub can't be reached.
        log: receives a line a file.
        revision: branch, tag or commit.

    Raises:
        FetchError: the hub can't be reached or lacks a file; names what to fetch by hand.
    """
    import huggingface_hub

    try:
        known: dict[str, Any] = {
            file.path: file
            for file in huggingface_hub.HfApi().get_paths_info(
                repository, list(names), repo_type="dataset", revision=revision
            )
        }
        for name in names:
            if name not in known:
                raise FetchError(f"{repository} has no {name} at {revision}. By hand: {by_hand}")
        for name in names:
            if (root / name).is_file() and _is_whole(root / name, known[name]):
                log(f"{name}: is there already")
                continue
            log(f"{name}: fetching {(known[name].size or 0) / 1e6:,.0f} MB")
            huggingface_hub.hf_hub_download(repository, name, repo_type="dataset", revision=revision, local_dir=root)
            if not _is_whole(root / name, known[name]):
                (root / name).unlink()
                raise FetchError(
                    f"{repository}: {name} came with another size or SHA-256; try again. By hand: {by_hand}"
                )
    except FetchError:
        raise
    except Exception as e:  # the hub's library lets through whatever its transport raises
        reason = (str(e).splitlines() or [type(e).__name__])[0]
        raise FetchError(f"{repository} can't be fetched ({reason}). By hand: {by_hand}") from e


def _is_whole(path: Path, known: Any) -> bool:
    """Whether a file has the size and, where the hub tells it, the SHA-256."""
    if known.size is not None and path.stat().st_size != known.size:
        return False
    try:
        if known.lfs is not None:
            check_sha256(path, known.lfs.sha256, "fetch it again")
    except HashMismatchError:
        return False
    return True

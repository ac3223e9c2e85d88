"""``interlingua serve``: a page and an HTTP API for what the models do."""

from pathlib import Path
from typing import Annotated

import cyclopts

from interlingua.cli.output import note

KEY_VARIABLE = "INTERLINGUA_API_KEY"

app = cyclopts.App(name="serve", help="Open a page, and an API that OpenAI's clients speak, for what the models do.")


@app.default
def serve(
    *,
    model: tuple[str, ...] = ("base",),
    models: Path | None = None,
    index: tuple[str, ...] = (),
    pairs: tuple[Path, ...] = (),
    runs: Path = Path("runs"),
    host: str = "127.0.0.1",
    port: int = 8000,
    api_key: Annotated[tuple[str, ...], cyclopts.Parameter(env_var=KEY_VARIABLE)] = (),
    max_upload: int = 200,
    max_minutes: float = 120.0,
    mcp: bool = False,
) -> None:
    """Serve until interrupted; then finish what was taken.

    Args:
        model: models to serve, the first by default: alias, hub id, model folder or a folder with a LoRA adapter.
        models: folder of further models: every sub-folder that is one.
        index: indexes to search, as NAME=FOLDER or FOLDER.
        pairs: files of mined pairs that the page shows.
        runs: folder of runs that the page shows.
        host: address to listen at; the default is this machine alone.
        port: port to listen at.
        api_key: keys, of which a request must carry one.
        max_upload: megabytes of a request at most.
        max_minutes: minutes of a recording at most.
        mcp: let agents call what the page does (Model Context Protocol).
    """
    import os
    import threading

    from interlingua.errors import UsageError
    from interlingua.serve.service import Limits, Service, find_models

    try:
        from interlingua.serve.app import LOOPBACK, Figures, build
        from interlingua.serve.app import serve as answer
    except ModuleNotFoundError as error:
        raise UsageError(f"{error.name} isn't installed; pip install 'interlingua[serve]'") from error
    if not api_key and KEY_VARIABLE in os.environ:
        raise UsageError(f"{KEY_VARIABLE} is set, but empty; unset it, or give a key")
    if any(not key.strip() for key in api_key):
        raise UsageError("--api-key: an empty key; leave it out, or give one")
    for path in pairs:
        if not path.is_file():
            raise UsageError(f"--pairs {path}: no such file")
    local = host in LOOPBACK
    figures = Figures()
    service = Service(
        find_models(model, models),
        indexes=dict(_named(text) for text in index),
        runs=runs,
        pairs={path.stem: path for path in pairs},
        limits=Limits(upload=max_upload << 20, seconds=60 * max_minutes),
        observe=lambda name, rows: figures.rows.labels(name).observe(rows),
    )
    service.models()  # what is wrong with one is found now
    service.open_indexes()
    threading.Thread(target=service.warm, daemon=True).start()
    note(f"interlingua: page and API at http://{'[::1]' if host == '::1' else host}:{port}; Ctrl-C stops them")
    if not local and not api_key:
        note("interlingua: everybody who reaches this machine may use it; --api-key asks for a key")
    answer(build(service, figures, keys=api_key, local=local, mcp=mcp), service, host=host, port=port)


def _named(index: str) -> tuple[str, str]:
    name, equals, uri = index.partition("=")
    return (name, uri) if equals else (Path(index.rstrip("/")).name, index)

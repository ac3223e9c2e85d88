"""Recordings of every kind -> an index: find, cut, encode what is new, drop what is gone."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

from interlingua.audio import load_audio
from interlingua.corpora import read_any
from interlingua.corpora.base import CORPORA, read_corpus
from interlingua.corpora.recordings import TABLES, audio_files
from interlingua.encoding import EncodeReport, RayEngine, encode_here, encode_manifest, load_encoder, resolve_device
from interlingua.encoding.encoder import SpeechEncoder
from interlingua.errors import AudioError, StoreError, UsageError
from interlingua.index.index import Index
from interlingua.languages import normalise_language
from interlingua.models import load_whisper
from interlingua.progress import track
from interlingua.translation import detect_language
from interlingua.translation.segments import Segmentation, chunks_of
from interlingua.types import SAMPLE_RATE, WINDOW_SECONDS, AudioRef, StoreDtype, Utterance

POOLING = 4  # frames averaged into a stored one: docs/seqsim.md
SEGMENTATION = Segmentation(gap=0.5)


def collect(
    inputs: Sequence[str],
    *,
    language: str | None = None,
    model: str = "base",
    log: Callable[[str], None] = lambda line: None,
) -> tuple[list[Utterance], dict[str, str]]:
    """The utterances that the command line names, and the recordings that failed (name -> why).

    Args:
        inputs: audio files, folders, patterns; manifests and tables; corpora as ``NAME`` or ``NAME=FOLDER``. A
            recording of more than 30 s is cut at its pauses, into utterances ``path#start-end``.
        language: of recordings without a manifest; None: ``model``, a Whisper, detects it.

    Raises:
        UsageError: nothing to index, or two utterances of one id.
        CorpusError: a corpus that isn't there, or a malformed manifest.
    """
    found: list[Utterance] = []
    failed: dict[str, str] = {}
    bare: list[Path] = []
    for given in inputs:
        name, _, root = given.partition("=")
        if name in CORPORA and not Path(given).exists():
            found += read_corpus(name, Path(root) if root else None, log=log)
        elif given.endswith(TABLES):
            found += read_any(given, log=log)
        else:
            bare += [path for path, _ in audio_files(given)]
    found += _cut(bare, language, model, failed)
    if not found and not failed:
        raise UsageError(
            f"{', '.join(inputs) or 'no input'}: no recording in it; name audio files, folders or manifests"
        )
    seen: set[str] = set()
    for u in found:
        if u.id in seen:
            raise UsageError(f"two utterances are called {u.id!r}; ids must differ: index them apart, or rename one")
        seen.add(u.id)
    return found, failed


def _cut(paths: Sequence[Path], language: str | None, model: str, failed: dict[str, str]) -> Iterator[Utterance]:
    """Utterances of recordings without a manifest."""
    code = normalise_language(language) if language else None
    listener = load_whisper(model) if paths and code is None else None
    with track(len(paths), "reading recordings") as advance:
        for path in paths:
            try:
                samples = load_audio(path)
                spoken = detect_language(listener, samples) if listener else str(code)
            except AudioError as e:
                failed[str(path)] = str(e)
                advance(1)
                continue
            seconds = len(samples) / SAMPLE_RATE
            if seconds <= WINDOW_SECONDS:
                yield Utterance(id=str(path), audio=AudioRef(str(path)), language=spoken, duration=seconds)
            else:
                for start, end in (chunk.seconds for chunk in chunks_of(samples, SEGMENTATION)):
                    stretch = AudioRef(str(path), offset=start, duration=end - start)
                    name = f"{path}#{start:.2f}-{end:.2f}"
                    yield Utterance(id=name, audio=stretch, language=spoken, duration=end - start)
            advance(1)


def build(
    utterances: Iterable[Utterance],
    uri: str | Path,
    *,
    encoder: str = "whisper",
    model: str | None = None,
    dtype: StoreDtype = "float16",
    device: str = "auto",
    keep: bool = False,
    like: Index | None = None,
    shard: tuple[int, int] = (0, 1),
    engine: Literal["here", "ray"] = "here",
    address: str | None = None,
) -> tuple[Index, EncodeReport]:
    """Make or update an index: encode what is new or changed, drop what is gone unless ``keep``.

    A killed build is continued by the same call. ``like`` is an index whose statistics a new one shares, so that
    `search_shards` can search both. One shard only encodes; once all have, a call without shards completes the index.
    ``engine`` ``ray`` encodes on the cluster at ``address``. See `encode_manifest` for the other arguments and errors.
    """
    name = str(uri).rstrip("/")
    chosen = list(utterances)
    load = _loader(name, encoder, model, device)
    run = RayEngine(partial(load, device=device), address, on_gpus=device != "cpu") if engine == "ray" else encode_here
    loaded = load(device=resolve_device(device)[0])
    store, report = encode_manifest(
        chosen, loaded, f"{name}/frames.lance", pooling=POOLING, dtype=dtype, shard=shard, engine=run
    )
    if not keep and shard == (0, 1):
        wanted = {u.id for u in chosen}
        store.delete([i for i in store.ids() if i not in wanted])
    place = Path(model).expanduser() if model else None
    spec = str(place.resolve()) if place and place.exists() else model or ""
    index = Index.of(uri, store, encoder=encoder, model=spec, shared=like.statistics if like else None)
    if shard == (0, 1):
        index.refresh()
    return index, report


def _loader(uri: str, encoder: str, model: str | None, device: str) -> Callable[..., SpeechEncoder]:
    """What loads the encoder of a new index, or that of an existing one, on a ``device``."""
    try:
        index = Index.open(uri)
    except StoreError:
        how = resolve_device(device)[1]
        return partial(load_encoder, encoder, model, context="speech", layer=None, compute=how)
    spec, (encoder, own) = index.store.spec, index.encoder
    chosen = model or own or None
    return partial(load_encoder, encoder, chosen, context=spec.context, layer=spec.layer, compute=spec.compute)

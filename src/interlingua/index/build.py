"""Recordings of every kind -> an index: find, cut, encode what is new, drop what is gone."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

import msgspec

from interlingua.audio import load_audio
from interlingua.corpora import read_any
from interlingua.corpora.base import CORPORA, read_corpus
from interlingua.corpora.recordings import audio_files, is_table
from interlingua.encoding import EncodeReport, RayEngine, encode_here, encode_manifest, load_encoder, resolve_device
from interlingua.encoding.encoder import SpeechEncoder, pool_frames
from interlingua.encoding.store import FrameStore
from interlingua.errors import AudioError, StoreError, UsageError
from interlingua.index.index import CHUNK, Index
from interlingua.languages import normalise_language
from interlingua.models import load_whisper
from interlingua.progress import track
from interlingua.translation import detect_language
from interlingua.translation.segments import Segmentation, chunks_of
from interlingua.types import SAMPLE_RATE, WINDOW_SECONDS, AudioRef, Frames, StoreDtype, Utterance

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
        elif is_table(given):
            found += read_any(given, log=log)
        else:
            bare += [path for path, _ in audio_files(given, log)]
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
    stores: Sequence[FrameStore] = (),
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

    A killed build is continued by the same call. ``stores`` are frame stores whose utterances are taken as they are
    encoded. ``like`` is an index whose statistics a new one shares, so that `search_shards` can search both. One shard
    only encodes; once all have, a call without shards completes the index. ``engine`` ``ray`` encodes on the cluster at
    ``address``. See `encode_manifest` for the other arguments and errors.

    Raises UsageError for a store whose frames can't be pooled to `POOLING`, or that knows no utterances.
    """
    name = str(uri).rstrip("/")
    chosen = list(utterances)
    report = EncodeReport(0, 0, {})
    wanted = {u.id for u in chosen}
    for source in stores:
        store, taken = _taken(source, f"{name}/frames.lance", dtype)
        wanted |= set(source.ids())
        report = EncodeReport(0, report.present + taken, {})
    if chosen or not stores:
        load = _loader(name, encoder, model, device)
        gpus = device != "cpu"
        run = RayEngine(partial(load, device=device), address, on_gpus=gpus) if engine == "ray" else encode_here
        store, made = encode_manifest(
            chosen,
            load(device=resolve_device(device)[0]),
            f"{name}/frames.lance",
            pooling=POOLING,
            dtype=dtype,
            shard=shard,
            engine=run,
        )
        report = EncodeReport(made.encoded, made.present + report.present, made.failed)
    if not keep and shard == (0, 1):
        store.delete([i for i in store.ids() if i not in wanted])
    place = Path(model).expanduser() if model else None
    spec = str(place.resolve()) if place and place.exists() else model or (stores[0].spec.model if stores else "")
    index = Index.of(uri, store, encoder=encoder, model=spec, shared=like.statistics if like else None)
    if shard == (0, 1):
        index.refresh()
    return index, report


def _taken(source: FrameStore, uri: str, dtype: StoreDtype) -> tuple[FrameStore, int]:
    """The index's frame store with another's utterances in it, pooled to `POOLING`; and their number."""
    if POOLING % source.spec.pooling:
        raise UsageError(f"{source.path}: frames pooled by {source.spec.pooling}; an index takes 1, 2 or {POOLING}")
    lines, hashes = source.lines(), source.hashes()
    if len(lines) < len(hashes):
        raise UsageError(f"{source.path}: made by an older version, it knows no utterances; encode again")
    store = FrameStore.open_or_create(uri, replace(source.spec, pooling=POOLING, dtype=dtype), source.dim)
    held, known = store.hashes(), store.lines()
    todo = [i for i in hashes if held.get(i) != hashes[i] or known.get(i) != lines[i]]
    with track(len(todo), "taking frames") as advance:
        for start in range(0, len(todo), CHUNK):
            ids = todo[start : start + CHUNK]
            store.write([_pooled(f, lines[f.id], source, store) for f in source.read(ids)])
            advance(len(ids))
    return store, len(hashes)


def _pooled(frames: Frames, line: str, source: FrameStore, store: FrameStore) -> Frames:
    values = pool_frames(frames.speech, store.spec.pooling // source.spec.pooling).astype(store.read_dtype)
    return Frames(frames.id, values, len(values), frames.audio_hash, msgspec.json.decode(line, type=Utterance))


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

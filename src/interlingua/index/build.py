"""Recordings of every kind -> an index: find, cut, encode what is new, drop what is gone."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

import msgspec

from interlingua.audio import load_audio
from interlingua.corpora import read_any
from interlingua.corpora.base import CORPORA, read_corpus
from interlingua.corpora.recordings import audio_files, is_table
from interlingua.encoding import (
    EncodeReport,
    RayEngine,
    encode_here,
    encode_manifest,
    load_encoder,
    resolve_device,
    shard_of,
)
from interlingua.encoding.encoder import SpeechEncoder, pool_frames, pooling_at
from interlingua.encoding.pipeline import in_shard
from interlingua.encoding.store import FrameStore, opened
from interlingua.errors import AudioError, UsageError
from interlingua.files import shown
from interlingua.index.index import CHUNK, Index, own_columns
from interlingua.languages import normalise_language
from interlingua.models import load_whisper
from interlingua.progress import track
from interlingua.translation import detect_language
from interlingua.translation.segments import Segmentation, chunks_of
from interlingua.types import SAMPLE_RATE, WINDOW_SECONDS, AudioRef, Frames, FrameSpec, StoreDtype, Utterance

POOLING = 4  # of Whisper's frames averaged into a stored one: docs/seqsim.md
SEGMENTATION = Segmentation(gap=0.5)


def collect(
    inputs: Sequence[str],
    *,
    language: str | None = None,
    model: str = "base",
    held: Mapping[str, Utterance] | None = None,
    shard: tuple[int, int] = (0, 1),
    log: Callable[[str], None] = lambda line: None,
) -> tuple[list[Utterance], dict[str, str], list[str]]:
    """The utterances that the command line names, the recordings that failed (name -> why), and names of all shards.

    Args:
        inputs: audio files, folders, patterns; manifests and tables; corpora as ``NAME`` or ``NAME=FOLDER``. A
            recording of more than 30 s is cut at its pauses, into utterances ``path#start-end``.
        language: of recordings without a manifest; None: ``model``, a Whisper, detects it.
        held: an index's utterances by id, whose language is known.
        shard: (i, n) reads part i of n only, by a hash of a recording's path, or of the id in a manifest. The names are
            these, of all parts.

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
            bare += [path.absolute() for path, _ in audio_files(given, log)]
            if bare and not bare[-1].exists():
                raise UsageError(f"{given}: no such file or folder; nothing is indexed, and nothing dropped")
    names = [*(u.id for u in found), *map(str, bare)]
    if not names:
        raise UsageError(
            f"{', '.join(inputs) or 'no input'}: no recording in it; name audio files, folders or manifests"
        )
    found = shard_of(found, *shard)
    found += _cut([p for p in bare if in_shard(str(p), *shard)], language, model, held or {}, failed)
    seen: set[str] = set()
    for u in found:
        if u.id in seen:
            raise UsageError(f"two utterances are called {u.id!r}; ids must differ: index them apart, or rename one")
        seen.add(u.id)
    return found, failed, names


def _cut(
    paths: Sequence[Path], language: str | None, model: str, held: Mapping[str, Utterance], failed: dict[str, str]
) -> Iterator[Utterance]:
    """Utterances of recordings without a manifest."""
    code = normalise_language(language) if language else None
    known = {u.audio.path: u.language for u in held.values()}
    listener = load_whisper(model) if code is None and any(str(path) not in known for path in paths) else None
    with track(len(paths), "reading recordings") as advance:
        for path in paths:
            if shown(path) != str(path):
                failed[shown(path)] = f"{shown(path)}: its name isn't UTF-8; rename it"
                advance(1)
                continue
            try:
                samples = load_audio(path)
                spoken = code or known.get(str(path)) or detect_language(listener, samples)  # type: ignore[arg-type]
            except AudioError as e:
                failed[str(path)] = str(e)
                advance(1)
                continue
            seconds = len(samples) / SAMPLE_RATE
            if seconds <= WINDOW_SECONDS:
                yield Utterance(id=str(path), audio=AudioRef(str(path)), language=spoken, duration=seconds)
            else:
                chunks = chunks_of(samples, SEGMENTATION)
                if not chunks:
                    failed[str(path)] = f"{path}: no speech found in it"
                for start, end in (chunk.seconds for chunk in chunks):
                    stretch = AudioRef(str(path), offset=start, duration=end - start)
                    name = f"{path}#{start:.2f}-{end:.2f}"
                    yield Utterance(id=name, audio=stretch, language=spoken, duration=end - start)
            advance(1)


def build(
    utterances: Iterable[Utterance],
    uri: str | Path,
    *,
    stores: Sequence[FrameStore] = (),
    encoder: str | None = None,
    model: str | None = None,
    dtype: StoreDtype = "float16",
    device: str = "auto",
    keep: bool = False,
    unread: Iterable[str] = (),
    like: Index | None = None,
    shard: tuple[int, int] = (0, 1),
    names: Sequence[str] | None = None,
    engine: Literal["here", "ray"] = "here",
    address: str | None = None,
) -> tuple[Index, EncodeReport]:
    """Make or update an index: encode what is new or changed, drop what is gone unless ``keep``.

    A killed build is continued by the same call.

    Args:
        utterances: as `collect` finds them.
        uri: of the index.
        stores: frame stores whose utterances are taken as they are encoded.
        encoder: the registry's name; None: the index's, or whisper.
        model: model spec; None: the index's, or the encoder's own.
        dtype: of the stored frames.
        device: where to encode.
        keep: drop nothing.
        unread: recordings whose utterances stay, though they can't be read now.
        like: an index whose statistics a new one shares, so that `search_shards` can search both.
        shard: (i, n) only encodes part i of n; once all are, a call without it completes the index.
        names: of all parts, where the utterances are part i already; both as `collect` gives them.
        engine: ``ray`` encodes on the cluster at ``address``.
        address: of the Ray cluster.

    Raises:
        UsageError: a store whose frames can't be pooled as an index's or that knows no utterances, an id that occurs
            twice, or another encoder, model or ``like`` than the index has.
        StoreMismatchError: frames of another kind.
    """
    name = str(uri).rstrip("/")
    chosen = list(utterances)
    own_columns(chosen)
    wanted = Counter([u.id for u in chosen] + [i for source in stores for i in source.ids()])
    if twice := [i for i, n in wanted.items() if n > 1]:
        raise UsageError(f"two utterances are called {twice[0]!r}; ids must differ: index them apart, or rename one")
    encoder, model = _encoder(name, encoder, model or (stores[0].spec.model if stores else None), like)
    for source in stores:
        source.require(replace(stores[0].spec, pooling=source.spec.pooling, dtype=source.spec.dtype), stores[0].dim)
        _require_alike(like, source.spec, source.dim)
    present, report = 0, EncodeReport(0, 0, {})
    for source in stores:
        store, taken = _taken(source, f"{name}/frames.lance", dtype)
        present += taken
    if chosen or names or not stores:
        load = _loader(name, encoder, model, device)
        gpus = device != "cpu"
        run = RayEngine(partial(load, device=device), address, on_gpus=gpus) if engine == "ray" else encode_here
        loaded = load(device=resolve_device(device)[0])
        _require_alike(like, loaded.spec, loaded.dim)
        settings = {
            "pooling": _pooling(name, loaded.rate),
            "dtype": dtype,
            "shard": shard,
            "whole": names,
            "engine": run,
        }
        store, report = encode_manifest(chosen, loaded, f"{name}/frames.lance", **settings)  # type: ignore[arg-type]
    report = replace(report, present=report.present + present)
    index = Index.of(uri, store, encoder=encoder, model=model, shared=like.statistics if like else None)
    if shard == (0, 1):
        if not keep:
            lost = tuple(unread)
            stay = {i for i in store.ids() if i in wanted or i.partition("#")[0] in lost or i in lost}
            store.delete([i for i in store.ids() if i not in stay])
        index.refresh()
    return index, report


def _encoder(uri: str, encoder: str | None, model: str | None, like: Index | None) -> tuple[str, str]:
    """Encoder and model of a new index, or those of an existing one, which others would contradict."""
    place = Path(model).expanduser() if model else None
    spec = str(place.resolve()) if place and place.exists() else model or ""
    if opened(f"{uri}/catalogue.lance") is None:
        return encoder or "whisper", spec
    index = Index.open(uri)
    held, own = index.encoder
    for option, wanted, there in (("encoder", encoder, held), ("model", spec, own)):
        if wanted and there and wanted not in (there, index.store.spec.model):
            raise UsageError(f"--{option} {wanted}: {uri} was made with {there}; build another index")
    if like and like.statistics.version != index.statistics.version:
        raise UsageError(f"--like {like.uri}: {uri} has statistics of its own; build it anew in another place")
    return held, own or spec


def _require_alike(like: Index | None, spec: FrameSpec, dim: int) -> None:
    """Raise StoreMismatchError unless another index's statistics fit these frames."""
    if like:
        like.store.require(replace(spec, pooling=like.store.spec.pooling, dtype=like.store.spec.dtype), dim)


def _taken(source: FrameStore, uri: str, dtype: StoreDtype) -> tuple[FrameStore, int]:
    """The index's frame store with another's utterances in it, pooled as an index's are; and their number."""
    pooling = _pooling(uri.removesuffix("/frames.lance"), source.spec.rate)
    if pooling % source.spec.pooling:
        fits = ", ".join(str(n) for n in range(1, pooling) if pooling % n == 0)
        takes = f"{fits} or {pooling}" if fits else f"{pooling}"
        raise UsageError(f"{source.path}: frames pooled by {source.spec.pooling}; an index takes {takes}")
    lines, hashes = source.lines(), source.hashes()
    if len(lines) < len(hashes):
        raise UsageError(f"{source.path}: made by an older version, it knows no utterances; encode again")
    store = FrameStore.open_or_create(uri, replace(source.spec, pooling=pooling, dtype=dtype), source.dim)
    held, known = store.hashes(), store.lines()
    todo = [i for i in hashes if held.get(i) != hashes[i] or known.get(i) != lines[i]]
    with track(len(todo), "taking frames") as advance:
        for start in range(0, len(todo), CHUNK):
            ids = todo[start : start + CHUNK]
            store.write([_pooled(f, lines[f.id], source, store) for f in source.read(ids)])
            advance(len(ids))
    return store, len(hashes)


def _pooling(uri: str, rate: float) -> int:
    """That of an index's frames, by the encoder's frames per second; an existing one keeps its own."""
    held = f"{uri}/frames.lance"
    return pooling_at(rate, POOLING) if opened(held) is None else FrameStore.open(held).spec.pooling


def _pooled(frames: Frames, line: str, source: FrameStore, store: FrameStore) -> Frames:
    values = pool_frames(frames.speech, store.spec.pooling // source.spec.pooling).astype(store.read_dtype)
    return Frames(frames.id, values, len(values), frames.audio_hash, msgspec.json.decode(line, type=Utterance))


def _loader(uri: str, encoder: str, model: str, device: str) -> Callable[..., SpeechEncoder]:
    """What loads the encoder on a ``device``; frames are made as those that an existing index has."""
    if opened(f"{uri}/frames.lance") is None:
        how = resolve_device(device)[1]
        return partial(load_encoder, encoder, model or None, context="speech", layer=None, compute=how)
    spec = FrameStore.open(f"{uri}/frames.lance").spec
    return partial(load_encoder, encoder, model or None, context=spec.context, layer=spec.layer, compute=spec.compute)

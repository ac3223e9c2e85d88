"""``interlingua corpus``: prepare corpora, check them, count them."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import cyclopts

from interlingua.cli.output import emit, note, say

app = cyclopts.App(name="corpus", help="Prepare corpora and write their manifests; check and count what they hold.")


@app.command
def prepare(
    name: str,
    *,
    out: Path,
    root: Path | None = None,
    languages: tuple[str, ...] = (),
    split: str | None = None,
    positives: Literal["all", "first"] = "all",
    max_utterances: int | None = None,
    download: bool = False,
    option: tuple[str, ...] = (),
    min_words: int | None = None,
    include_non_speech: bool = False,
    fold: int | None = None,
    json: bool = False,
) -> None:
    """Read a corpus as its publishers distribute it, and write a manifest.

    Recordings stay where they are, in tar, tar.gz and parquet files too. Unusable ones are counted and named.

    Args:
        name: corpus from `interlingua corpus list`, or module:attribute of your own. ``prompts`` (human speech,
            parallel in five languages) and ``udhr`` (SYNTHETIC speech of unseen languages) fetch themselves.
        out: the manifest to write (JSON lines).
        root: folder of the corpus; default: in the cache, for those that fetch themselves.
        languages: languages to read, in the corpus's codes or Whisper's; default: all that are there.
        split: the split to read; default: all that are there.
        positives: keep all recordings of a sentence (each is a positive of each), or the first.
        max_utterances: most utterances of each language; sentences that most languages share come first.
        download: fetch the corpus below ROOT first, where its source allows that (fleurs).
        option: the corpus's own options as NAME=VALUE; `interlingua corpus list NAME` names them.
        min_words: (prompts) least number of words of a prompt's English transcript; default 4.
        include_non_speech: (prompts) keep silences and beeps too.
        fold: split into train, dev and test by near-duplicate cluster; of five folds this one (0 to 4) is test.
        json: print the result as JSON.
    """
    from interlingua.corpora.base import get_corpus, read_corpus
    from interlingua.corpora.prepare import check_out, prepare_manifest
    from interlingua.errors import UsageError

    corpus = get_corpus(name)
    languages = tuple(code for written in languages for code in written.split(",") if code)
    options = corpus.parse_options(option)
    for key, value in (("min_words", min_words), ("include_non_speech", include_non_speech or None)):
        if value is not None:
            if key not in corpus.options:
                raise UsageError(f"--{key.replace('_', '-')} is of the prompts corpus; omit it")
            options[key] = value
    check_out(out)
    if download:
        if corpus.download is None:
            raise UsageError(f"--download: {name} can't be fetched by a program. {corpus.fetch_hint()}")
        if root is None:
            raise UsageError(f"--download needs --root, the folder to put {name} into")
        corpus.download(root, languages or None, corpus.split(split), note)
    done = prepare_manifest(
        lambda log: read_corpus(name, root, languages=languages or None, split=split, log=log, **options),
        out,
        positives=positives,
        max_utterances=max_utterances,
        fold=fold,
        log=note,
    )
    summary = {
        "corpus": name,
        "manifest": str(out),
        "synthetic": corpus.synthetic,
        "licence": corpus.licence,
        **done.as_dict(),
    }
    if json:
        emit(summary)
    else:
        _print_prepared(summary, corpus.units)


@app.command
def check(manifest: Path, *, quick: bool = False, all: bool = False, json: bool = False) -> int:
    """Find a manifest's problems: missing, empty, clipped or repeated audio, rates, texts, languages.

    A problem that many utterances share is printed once, with three examples. Exits with 1 if anything is wrong.

    Args:
        manifest: utterances to check: a manifest or a table of your own.
        quick: read the audio's bytes without decoding them.
        all: print every finding, a line each.
        json: print every finding as JSON, one object a line.
    """
    from interlingua.corpora.base import silent
    from interlingua.corpora.check import PROBLEMS, check_utterances, summarised
    from interlingua.metrics import has_words
    from interlingua.metrics.offtarget import written_in
    from interlingua.progress import track

    read = _readings(manifest, repeated=True)
    total = sum(1 for _ in read(note))
    counts: dict[str, int] = {}
    with track(total, "checking") as done:

        def found() -> Iterator[Any]:
            spoken = read(silent)
            for finding in check_utterances(
                spoken, decode=not quick, written_in=written_in, has_words=has_words, done=done
            ):
                counts[finding.problem] = counts.get(finding.problem, 0) + 1
                yield finding

        if json:
            for finding in found():
                emit({"id": finding.id, "problem": finding.problem, "detail": finding.detail}, lines=True)
        else:
            for line in found() if all else summarised(found()):
                say(line)
    for problem, count in counts.items():
        note(f"{problem}: {count} ({PROBLEMS[problem]})")
    note(f"{manifest}: {total} utterances, {sum(counts.values())} findings")
    return 1 if counts else 0


@app.command
def stats(manifest: Path, *, json: bool = False) -> None:
    """Count a manifest: hours, speakers, sentences with several recordings, and sentences that its languages share.

    Args:
        manifest: manifest or table of your own; unknown durations are read from the recordings' headers.
        json: print the result as JSON.
    """
    from interlingua.corpora.base import silent
    from interlingua.corpora.prepare import corpus_statistics, measured, unmeasured
    from interlingua.progress import track

    read = _readings(manifest)
    lacking = sum(unmeasured(u) for u in read(note))
    with track(lacking, "measuring") as done:
        found = corpus_statistics(measured(read(silent), done))
    if json:
        emit(found)
        return
    say("language  utterances   hours  speakers  sentences  several recordings  splits")
    for code, one in found["languages"].items():
        splits = ", ".join(f"{split} {n}" for split, n in one["splits"].items())
        speakers = one["speakers"] if one["speakers"] or not one["without_speaker"] else "unknown"
        hours = "unknown" if one["without_duration"] == one["utterances"] else f"{one['hours']:.2f}"
        say(
            f"{code:8}  {one['utterances']:10}  {hours:>6}  {speakers!s:>8}  {one['sentences']:9}  "
            f"{one['sentences_with_several_recordings']:18}  {splits}"
        )
    for code, one in found["languages"].items():
        for what, n in (("duration", one["without_duration"]), ("speaker", one["without_speaker"])):
            if n:
                say(f"{code}: {n} of {one['utterances']} without a known {what}")
    for pair, n in found["overlap"].items():
        say(f"{pair}: {n} sentences in both")
    if len(found["languages"]) > 2:
        say(f"all: {found['common_to_all']} sentences in every language")


@app.command(name="list")
def list_(name: str | None = None, *, json: bool = False) -> None:
    """Name every corpus, or describe one: what to fetch, where to put it, its options and licence.

    Args:
        name: the corpus to describe.
        json: print the result as JSON.
    """
    from interlingua.corpora.base import CORPORA, get_corpus
    from interlingua.errors import UsageError

    chosen = {}
    for one in CORPORA if name is None else [name]:
        try:
            chosen[one] = get_corpus(one)
        except UsageError as e:  # one of another package, which is broken
            if name is not None:
                raise
            note(f"interlingua: {e}")
    if json:
        emit({one: corpus.as_dict() for one, corpus in chosen.items()})
        return
    for one, corpus in chosen.items():
        say(f"{one:13}  {corpus.title}")
        if name is not None:
            say(f"fetch: {corpus.fetch}\nlicence: {corpus.licence}")
            for key, kind in corpus.as_dict()["options"].items():
                say(f"--option {key}=… ({kind})")


def _readings(manifest: Path, *, repeated: bool = False) -> Callable[[Callable[[str], None]], Iterator[Any]]:
    """Reader of a manifest, callable several times: a pipe's utterances are kept."""
    from interlingua.corpora import read_any

    if manifest.exists() and not (manifest.is_file() or manifest.is_dir()):
        held = list(read_any(manifest, repeated=repeated, log=note))
        return lambda log: iter(held)
    return lambda log: read_any(manifest, repeated=repeated, log=log)


def _print_prepared(summary: dict[str, Any], units: tuple[str, str]) -> None:
    several = summary["several_recordings"]
    say(
        f"{summary['manifest']}: {summary['utterances']} utterances of {summary['meanings']} {units[0]} "
        f"({summary['clusters']} {units[1]}), {summary['seconds']} s"
        + (f" ({summary['without_duration']} of unknown length)" if summary["without_duration"] else "")
        + ("; SYNTHETIC speech" if summary["synthetic"] else "")
    )
    if several["skipped"]:
        say(f"{several['skipped']} further recordings of sentences were skipped")
    elif several["sentences"]:
        say(f"{several['sentences']} sentences have several recordings, {several['most']} at most")
    say(f"rule: {several['rule']}")

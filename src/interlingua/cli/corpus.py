"""``interlingua corpus``: prepare corpora."""

from pathlib import Path
from typing import Literal

import cyclopts

from interlingua.cli.output import emit, note

app = cyclopts.App(name="corpus", help="Prepare corpora and write their manifests.")


@app.command
def prepare(
    name: Literal["prompts", "udhr"],
    *,
    out: Path,
    root: Path | None = None,
    languages: tuple[str, ...] = (),
    min_words: int | None = None,
    include_non_speech: bool = False,
    rotation: int | None = None,
    json: bool = False,
) -> None:
    """Fetch a corpus unless it is there, verify it, and write a manifest.

    Args:
        name: the corpus; ``prompts`` is real human speech, parallel in five languages; ``udhr`` is SYNTHETIC speech
            (espeak-ng) of languages that Whisper has no token for, and of controls, with English references.
        out: the manifest to write (JSON lines).
        root: folder of the corpus; default: in the cache.
        languages: languages to write; default: all of the corpus.
        min_words: (prompts) least number of words of a prompt's English transcript; default 4.
        include_non_speech: (prompts) keep silences and beeps too.
        rotation: split into train, dev and test by near-duplicate cluster, 0 to 4: which fifth is test.
        json: print the result as JSON.
    """
    from interlingua.corpora import prepare_prompts, prepare_udhr, prompts, split_by_cluster, udhr, write_manifest
    from interlingua.errors import UsageError

    if name == "udhr":
        for option, given in (("--min-words", min_words is not None), ("--include-non-speech", include_non_speech)):
            if given:
                raise UsageError(f"{option} is of the prompts corpus; leave it out")
        utterances = prepare_udhr(root, languages=languages or udhr.LANGUAGES, log=note)
    else:
        utterances = prepare_prompts(
            root,
            languages=languages or prompts.LANGUAGES,
            min_words=4 if min_words is None else min_words,
            include_non_speech=include_non_speech,
            log=note,
        )
    if rotation is not None:
        utterances = split_by_cluster(utterances, rotation)
    write_manifest(out, utterances)
    summary = {
        "corpus": name,
        "manifest": str(out),
        "synthetic": name == "udhr",
        "utterances": len(utterances),
        "meanings": len({u.meaning for u in utterances}),
        "clusters": len({u.cluster for u in utterances}),
        "seconds": round(sum(u.duration or 0.0 for u in utterances), 1),
    }
    if json:
        emit(summary)
    else:
        kind = ("paragraphs", "articles") if name == "udhr" else ("prompts", "clusters of near-duplicates")
        print(
            f"{out}: {summary['utterances']} utterances of {summary['meanings']} {kind[0]} "
            f"({summary['clusters']} {kind[1]}), {summary['seconds']} s"
            + ("; SYNTHETIC speech by espeak-ng" if name == "udhr" else "")
        )

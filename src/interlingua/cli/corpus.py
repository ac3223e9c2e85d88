"""``interlingua corpus``: prepare corpora."""

from pathlib import Path
from typing import Literal

import cyclopts

from interlingua.cli.output import emit, note

app = cyclopts.App(name="corpus", help="Prepare corpora and write their manifests.")


@app.command
def prepare(
    name: Literal["prompts"],
    *,
    out: Path,
    root: Path | None = None,
    languages: tuple[str, ...] = ("en", "es", "fr", "it", "ru"),
    min_words: int = 4,
    include_non_speech: bool = False,
    rotation: int | None = None,
    json: bool = False,
) -> None:
    """Fetch a corpus unless it is there, verify it, and write a manifest.

    Args:
        name: the corpus; ``prompts`` is real human speech, parallel in five languages.
        out: the manifest to write (JSON lines).
        root: folder of the corpus; default: in the cache.
        languages: languages to write.
        min_words: least number of words of a prompt's English transcript.
        include_non_speech: keep silences and beeps too.
        rotation: split into train, dev and test by near-duplicate cluster, 0 to 4: which fifth is test.
        json: print the result as JSON.
    """
    from interlingua.corpora import prepare_prompts, split_by_cluster, write_manifest

    utterances = prepare_prompts(
        root,
        languages=languages,
        min_words=min_words,
        include_non_speech=include_non_speech,
        log=note,
    )
    if rotation is not None:
        utterances = split_by_cluster(utterances, rotation)
    write_manifest(out, utterances)
    summary = {
        "corpus": name,
        "manifest": str(out),
        "utterances": len(utterances),
        "meanings": len({u.meaning for u in utterances}),
        "clusters": len({u.cluster for u in utterances}),
        "seconds": round(sum(u.duration or 0.0 for u in utterances), 1),
    }
    if json:
        emit(summary)
    else:
        print(
            f"{out}: {summary['utterances']} utterances of {summary['meanings']} prompts "
            f"({summary['clusters']} clusters of near-duplicates), {summary['seconds']} s"
        )

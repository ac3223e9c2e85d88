"""Which transcripts of the prompts corpus don't say what the recording says.

Whisper-base transcribes every recording, and the transcripts that share least with what it heard are printed for a
person to judge. The verdicts are kept in `src/interlingua/corpora/data/prompts_unfaithful.txt`, which `prepare prompts`
obeys. The recogniser errs too: a low similarity is a reason to look, not a verdict.
"""

import argparse
import sys

from interlingua.corpora import prompts
from interlingua.corpora.clusters import edit_similarity, words_of
from interlingua.encode import WhisperEncoder, encode_manifest
from interlingua.models import load_whisper
from interlingua.progress import track
from interlingua.translation import translate_frames
from interlingua.types import WINDOW_SECONDS


def main() -> None:
    """Transcribe, compare, print the doubtful ones, worst first."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", default="runs/transcripts.lance", help="frames are kept here")
    parser.add_argument("--below", type=float, default=0.5, help="print transcripts less similar than this")
    options = parser.parse_args()
    utterances = [
        u for u in prompts.prepare_prompts(faithful_only=False) if u.text and (u.duration or 0) <= WINDOW_SECONDS
    ]
    whisper = load_whisper("base")
    store, _ = encode_manifest(utterances, WhisperEncoder(whisper, context="full"), options.store)
    heard: dict[str, str] = {}
    with track(len(utterances), "transcribing") as advance:
        for language in prompts.LANGUAGES:
            frames = store.read([u.id for u in utterances if u.language == language])
            for hypothesis in translate_frames(whisper, frames, language, task="transcribe"):
                heard[hypothesis.id] = hypothesis.text
                advance(1)
    rows = []
    for u in utterances:
        similarity = edit_similarity("".join(words_of(str(u.text))), "".join(words_of(heard[u.id])))
        rows.append((similarity, u.id, u.duration, u.text, heard[u.id]))
    rows.sort()
    for similarity, name, duration, text, hypothesis in rows:
        if similarity < options.below:
            print(f"{similarity:.2f}\t{name}\t{duration:.1f} s\t{text}\t{hypothesis}")
    for language in prompts.LANGUAGES:
        values = [r[0] for r in rows if r[1].startswith(f"{language}/")]
        below = sum(v < options.below for v in values)
        middle = sorted(values)[len(values) // 2]
        print(
            f"{language}: {len(values)} transcripts, median {middle:.2f}, {below} below {options.below}",
            file=sys.stderr,
        )


if __name__ == "__main__":
    main()

"""The transfer study and its page, docs/transfer.md: what one source language teaches the others, and what is forgotten.

Runs recipes/transfer-prompts-full.yaml (hours on two cores; interrupted, it goes on where it was), or the recipe that is named.
"""

import sys
from pathlib import Path
from typing import Any

from interlingua.experiments.recipes import read_recipe
from interlingua.experiments.transfer_study import (
    CONTEXT,
    PERMUTED,
    PLAIN,
    TOLERATED,
    TransferStudy,
    run_transfer_study,
)
from interlingua.files import write_text
from interlingua.results import load_results

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "transfer.md"


def main() -> None:
    """Run what isn't done yet, and write the page."""
    recipe = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "recipes" / "transfer-prompts-full.yaml"
    study = read_recipe(recipe)
    assert isinstance(study, TransferStudy)
    results, _ = load_results(run_transfer_study(study))
    write_text(PAGE, page(study, results, recipe.name))
    print(f"{PAGE} written")


def page(study: TransferStudy, results: dict[str, Any], recipe: str) -> str:
    """docs/transfer.md."""
    made = results["provenance"]
    parts = [section(target, [r for r in results["study"] if r["target"] == target]) for target in study.targets]
    settings = ", ".join(f"{k} {v}" for k, v in study.settings.items())
    return f"""# What one source language teaches the others

Written by `make study-transfer` (`interlingua run recipes/{recipe}`), not by hand: {made["started"][:10]}, {made["device"]["name"]},
{made["device"]["threads"]} threads, training in {made["device"]["compute"]}, decoding greedily in float32, torch {made["packages"]["torch"]}.

Whisper-base, its encoder frozen, learns to translate {study.source} speech of the prompts corpus into a new target; the other languages are **never trained
on**. States have context `{CONTEXT}`. Split into train, dev and test (3:1:1) by cluster of near-duplicates, {len(study.rotations)} rotation(s), {len(study.seeds)} seed(s);
{settings}; the best epoch by chrF on dev. Where a variant lists several shares of its change (WiSE-FT), dev chooses the one with the best new target among
those that lose at most {-TOLERATED} chrF into English there. All figures are chrF on test; intervals are 95% bootstrap intervals, clusters resampled over
all languages and rotations together and paired where a difference is given.

**Controls**: `{PERMUTED}` trains on the same texts dealt out anew over the audio (what is learnt is the domain's text alone), and every gain is over the best
of three untrained prompts, chosen on dev.

{"".join(parts)}"""


def section(target: str, rows: list[dict[str, Any]]) -> str:
    """One target."""
    head = [
        "variant",
        "share",
        "sources never trained on: gain",
        f"against `{PERMUTED}`",
        "trained source: gain",
        "X→English: change",
        f"share of the gain of `{PLAIN}`",
    ]
    lines = [
        [
            f"`{r['variant']}`",
            f"{r['share']:g}",
            change(r["new_unseen"]),
            "" if r["variant"] == PERMUTED else change(r["unseen_against_permuted"]),
            change(r["new_source"]),
            change(r["into_english"]),
            "" if r["variant"] in (PLAIN, PERMUTED) else share(r["share_of_plain"]),
        ]
        for r in rows
    ]
    languages = list(rows[0]["by_language"])
    each = [
        [
            f"`{r['variant']}`",
            *(
                f"{change(r['by_language'][s]['untrained'])}; {change(r['by_language'][s][PERMUTED])}"
                for s in languages
            ),
        ]
        for r in rows
        if r["variant"] != PERMUTED
    ]
    untrained = rows[0]["chrf_unseen"]["untrained"]
    return f"""## Into `{target}`

Best untrained prompt: `{rows[0]["untrained_prompt"]}`, chrF {untrained:.1f} over the sources never trained on; `{PLAIN}` reaches {rows[0]["chrf_unseen"]["plain"]:.1f}.

{table(head, lines)}

By language: gain over the best untrained prompt; over `{PERMUTED}`.

{table(["variant", *(f"{s}→{target}" for s in languages)], each)}

"""


def change(score: dict[str, Any]) -> str:
    """A difference with its interval."""
    low, high = score["ci"]
    return f"{score['value']:+.1f} [{low:+.1f}, {high:+.1f}]"


def share(score: dict[str, Any]) -> str:
    """A share in per cent with its interval."""
    if score["value"] is None or score["ci"] is None:
        return "no gain to compare with"
    return f"{100 * score['value']:.0f}% [{100 * score['ci'][0]:.0f}, {100 * score['ci'][1]:.0f}]"


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *rows])


if __name__ == "__main__":
    main()

"""What the numbers say, in plain words: every sentence is derived from the results, none is fixed praise."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from interlingua.results import Results, Retrieval, name_of
from interlingua.retrieval.methods import CONTROLS, METHOD_LABELS, method_label

# A control's share of the main method's distance from chance, from which on …
CONTROL_EXPLAINS = 0.9  # … it does as well
CONTROL_COMES_CLOSE = 0.5  # … it comes close
CONTROL_MATTERS = 0.25  # … it accounts for a part
_LISTED = 4  # pairs named in a sentence before "and N more"
_IN_PROSE = {
    "duration": "duration alone",
    "seqsim:log-mel": "the same comparison on log-mel frames",
    "seqsim:random-weights": "the same encoder with random weights",
}


@dataclass(frozen=True)
class Summary:
    """The report's opening: ``lead`` is one paragraph; the rest may be empty."""

    lead: str = ""
    controls: str = ""
    notes: list[str] = field(default_factory=list)
    near_chance: list[str] = field(default_factory=list)
    causes: list[str] = field(default_factory=list)


def summarise(results: Results) -> Summary:
    """Say what was found, whether the controls explain it, and what calls for care."""
    method = results.main_method
    if method is None or not (scores := list(results.scores(method).values())):
        return Summary()
    near = [s for s in scores if is_near_chance(s)]
    return Summary(
        lead=_lead(method, scores, near),
        controls=_controls(results, method),
        notes=[n for n in (_mean_pool(results, method), _voices(results)) if n],
        near_chance=[_near_line(s) for s in near],
        causes=_causes(results, near) if near else [],
    )


def is_near_chance(score: Retrieval) -> bool:
    """Whether the interval doesn't clear chance, or R@1 is under twice chance (at most 5 points over)."""
    if score.chance is None:
        return False
    if score.r1_ci is not None and score.r1_ci[0] <= score.chance:
        return True
    return score.r1 < min(2 * score.chance, score.chance + 0.05)


def share_of_effect(control: float, main: float, chance: float) -> float:
    """A control's R@1 above chance as a share of the main method's; 1 where the latter isn't above chance."""
    return (control - chance) / (main - chance) if main > chance else 1.0


def percent(value: float) -> str:
    """A proportion for prose: whole per cents from 10 on, one decimal below, two digits below 0.1%."""
    if value >= 0.0995:
        return f"{value:.0%}"
    return f"{100 * value:.1f}%" if value >= 0.001 or value == 0 else f"{100 * value:.2g}%"


def _lead(method: str, scores: Sequence[Retrieval], near: Sequence[Retrieval]) -> str:
    r1 = [s.r1 for s in scores]
    among = _span([s.n_candidates for s in scores if s.n_candidates is not None])
    text = f"Given a sentence spoken in one language, {method_label(method)} ranked the right utterance "
    text += f"among {among} in another language first in " if among else "in another language first in "
    if len(scores) == 1:
        interval = scores[0].r1_ci
        ci = f", 95% interval {percent(interval[0])} to {percent(interval[1])}" if interval else ""
        text += f"{percent(r1[0])} of cases ({scores[0].pair_name}{ci})"
    else:
        low, high = percent(min(r1)), percent(max(r1))
        languages = len({code for s in scores for code in s.pair})
        text += f"{low} to {high} of cases" if low != high else f"{low} of cases"
        text += f" ({len(scores)} ordered pairs of {languages} languages, mean {percent(fmean(r1))})"
    chances = [s.chance for s in scores if s.chance is not None]
    if chances:
        low, high = percent(min(chances)), percent(max(chances))
        text += f"; chance is {low}." if low == high else f"; chance is {low} to {high}."
    else:
        text += "."
    if len(scores) > 1 and min(r1) < max(r1):
        best, worst = max(scores, key=lambda s: s.r1), min(scores, key=lambda s: s.r1)
        text += f" {best.pair_name} does best, {worst.pair_name} worst."
    judged = [s for s in scores if s.r1_ci is not None and s.chance is not None]
    includes = [s for s in judged if s.r1_ci and s.chance is not None and s.r1_ci[0] <= s.chance]
    if includes:
        text += (
            f" In {len(includes)} of {len(judged)} pairs the 95% interval does not rise above chance: "
            f"{_some(s.pair_name for s in includes)}."
        )
    elif near:
        text += f" {_some(s.pair_name for s in near)} {'lies' if len(near) == 1 else 'lie'} near chance."
    elif judged:
        pairs = "The 95% interval lies" if len(judged) == 1 else "Every pair's 95% interval lies"
        text += f" {pairs} above chance."
    lenient = [s.r1_cluster for s in scores if s.r1_cluster is not None]
    if len(lenient) == len(scores) and fmean(lenient) > fmean(r1):
        mean = " on average" if len(scores) > 1 else ""
        lenient_mean = percent(fmean(lenient))
        text += f" Where a near-duplicate of the right sentence counts as right, it is {lenient_mean}{mean}"
        chances = [s.chance_cluster for s in scores if s.chance_cluster is not None]
        text += f" (chance {percent(fmean(chances))})." if len(chances) == len(scores) else "."
    return text


def _controls(results: Results, method: str) -> str:
    """Compare each control with the main method on the pairs that both were run on."""
    main = results.scores(method)
    rows: list[tuple[str, float, float, float, int]] = []
    overlaps: list[str] = []
    judged = 0
    for control in CONTROLS:
        scores = results.scores(control)
        common = [p for p in scores if p in main]
        if control == method or not common:
            continue
        chance = fmean(main[p].chance or scores[p].chance or 0.0 for p in common)
        ours, theirs = fmean(main[p].r1 for p in common), fmean(scores[p].r1 for p in common)
        rows.append((control, theirs, ours, share_of_effect(theirs, ours, chance), len(common)))
        for p in common:
            a, b = main[p].r1_ci, scores[p].r1_ci
            judged += a is not None and b is not None
            if a is not None and b is not None and b[1] >= a[0]:
                overlaps.append(f"{main[p].pair_name} ({_IN_PROSE[control]})")
    absent = [_IN_PROSE[c] for c in CONTROLS if c != method and c not in [r[0] for r in rows]]
    if not rows:
        return "No control was run, so nothing here tells meaning from length or sound."
    label = method_label(method)
    text = "Could something simpler explain this? On the same pairs, "
    text += _join(
        f"{_IN_PROSE[c]} reaches {percent(theirs)} where {label} reaches {percent(ours)}"
        + (f" ({n} {'pair' if n == 1 else 'pairs'})" if n < len(main) else "")
        for c, theirs, ours, _, n in rows
    )
    text += ". "
    if any(is_near_chance(s) for s in main.values()) and all(is_near_chance(s) for s in main.values()):
        text += f"{label} itself stays near chance, so there is nothing to explain yet."
    elif equal := [c for c, _, _, share, _ in rows if share >= CONTROL_EXPLAINS]:
        text += (
            f"{_capital(_join(_IN_PROSE[c] for c in equal))} {_does(equal)} as well or nearly so: "
            "these results don't show a shared space of meaning."
        )
    elif close := [c for c, _, _, share, _ in rows if share >= CONTROL_COMES_CLOSE]:
        text += (
            f"{_capital(_join(_IN_PROSE[c] for c in close))} {'comes' if len(close) == 1 else 'come'} close: "
            "much of the result needs no shared meaning."
        )
    elif part := [c for c, _, _, share, _ in rows if share >= CONTROL_MATTERS]:
        text += (
            f"{_capital(_join(_IN_PROSE[c] for c in part))} "
            f"{'accounts' if len(part) == 1 else 'account'} for a part of it, but not for most of it."
        )
    else:
        which = "The control reaches" if len(rows) == 1 else "None of the controls, taken alone, reaches"
        text += (
            f"{which} a quarter of the way from chance to {label}. That rules out length and raw sound as the main "
            "cause; it doesn't tell meaning from learned phonetics, such as words that sound alike in both languages."
        )
    if overlaps:
        count = f"In {len(overlaps)} of {judged} comparisons"
        text += f" {count} a control's 95% interval reaches that of {label}: {_some(overlaps)}."
    if absent:
        text += f" Not run: {_join(absent)}."
    return text


def _mean_pool(results: Results, method: str) -> str:
    main, pooled = results.scores(method), results.scores("mean-pool")
    common = [p for p in pooled if p in main]
    if method == "mean-pool" or not common:
        return ""
    ours, theirs = fmean(main[p].r1 for p in common), fmean(pooled[p].r1 for p in common)
    better = sum(main[p].r1 > pooled[p].r1 for p in common)
    return (
        f"One averaged vector an utterance ({METHOD_LABELS['mean-pool'][0].lower()}) reaches {percent(theirs)} "
        f"where {method_label(method)}, frame by frame, reaches {percent(ours)}; the latter is ahead in "
        f"{better} of {len(common)} {'pair' if len(common) == 1 else 'pairs'}."
    )


def _voices(results: Results) -> str:
    languages = [lang for lang in results.corpus.languages if lang.voice] if results.corpus else []
    used = [lang for lang in languages if lang.language in results.languages]
    if len(used) < 2 or len(used) < len(results.languages):
        return ""
    speakers: dict[str, list[str]] = {}
    for lang in used:
        speakers.setdefault(lang.voice or "", []).append(name_of(lang.language))
    shared = [f"{_join(names)} share a speaker ({voice})" for voice, names in speakers.items() if len(names) > 1]
    text = "Each language has one voice, so a voice can't single out the right utterance"
    if shared:
        return f"{text}; {_join(shared)}, whose way of reading a sentence may help between them."
    return f"{text}; no two languages share a speaker."


def _near_line(score: Retrieval) -> str:
    ci = f", 95% interval {percent(score.r1_ci[0])} to {percent(score.r1_ci[1])}" if score.r1_ci else ""
    return f"{score.pair_name}: {percent(score.r1)}{ci}; chance {percent(score.chance or 0.0)}"


def _causes(results: Results, near: Sequence[Retrieval]) -> list[str]:
    codes = {code for s in near for code in s.pair}
    lengths = [
        f"{name_of(lang.language)} {lang.seconds / lang.n:.1f} s"
        for lang in (results.corpus.languages if results.corpus else [])
        if lang.language in codes and lang.seconds and lang.n
    ]
    layer = results.settings.get("layer")
    return [
        "the recordings are in another language than the manifest says, or not translations of each other",
        "the audio was recorded at 8 kHz (telephone): the upper half of what Whisper listens to is missing",
        "the frames come from an unfit layer"
        + (f" (here: layer {layer})" if layer is not None else "")
        + ": meaning shows in the last ones",
        "the utterances are too short to carry a meaning of their own"
        + (f" (mean length: {_join(lengths)})" if lengths else ""),
    ]


def _span(values: Sequence[int]) -> str:
    if not values:
        return ""
    return str(values[0]) if min(values) == max(values) else f"{min(values)} to {max(values)}"


def _some(items: Iterable[str]) -> str:
    listed = list(items)
    if len(listed) > _LISTED + 1:
        return ", ".join(listed[:_LISTED]) + f" and {len(listed) - _LISTED} more"
    return _join(listed)


def _join(items: Iterable[str]) -> str:
    listed = list(items)
    return listed[0] if len(listed) == 1 else ", ".join(listed[:-1]) + " and " + listed[-1]


def _does(items: Sequence[str]) -> str:
    return "does" if len(items) == 1 else "do"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]

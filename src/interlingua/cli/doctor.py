"""``interlingua doctor``: what is here, and the command that fixes what is missing."""

import cyclopts

from interlingua.cli.output import emit, note, say

app = cyclopts.App(name="doctor", help="Say what is here and how to fix what is missing.")

_MARKS = {True: "ok", False: "MISSING", None: "-"}


@app.default
def doctor(*, fetch: bool = False, comet: bool = False, json: bool = False) -> int:
    """Examine model sources, devices, optional parts and caches; exit 1 if something needed is missing.

    Args:
        fetch: first fetch the Whisper-base weights and the prompts corpus, if missing.
        comet: first make COMET's environment (about 1.5 GB), if missing; only `evaluate outputs --comet` needs it.
        json: print the findings as JSON.
    """
    from interlingua import doctor as library

    if fetch:
        library.fetch(note)
    if comet:
        from interlingua.metrics import set_up_comet

        set_up_comet(note)
    findings = library.examine()
    if json:
        emit({"findings": [vars(f) for f in findings]})
    else:
        for finding in findings:
            fix = f"  fix: {finding.fix}" if finding.fix and not finding.ok else ""
            say(f"{_MARKS[finding.ok]:8}{finding.name}: {finding.detail}{fix}")
    return 1 if any(f.ok is False for f in findings) else 0

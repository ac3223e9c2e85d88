"""The command line: one thin file per verb; typed config in, library call, printed result.

Exit codes: 0 when everything succeeded, 1 when some items failed (each is named), 2 for wrong usage or input,
130 when interrupted. Results go to stdout; progress and notes go to stderr.
"""

import io
import os
import sys
from collections.abc import Sequence

import cyclopts

from interlingua import __version__
from interlingua.cli import (
    align,
    corpus,
    demo,
    doctor,
    encode,
    evaluate,
    export,
    finetune,
    index,
    mine,
    report,
    search,
    serve,
    translate,
)
from interlingua.cli import run as recipe
from interlingua.cli.output import note
from interlingua.errors import InterlinguaError
from interlingua.files import fix_of

app = cyclopts.App(
    name="interlingua",
    help="Cross-lingual transfer in speech translation: retrieval, transfer and unseen languages.",
    version=__version__,
    result_action="return_value",
    suppress_keyboard_interrupt=False,
    default_parameter=cyclopts.Parameter(negative="", consume_multiple=True),  # --languages en fr
)
PARTS = (
    demo,
    doctor,
    corpus,
    encode,
    index,
    search,
    mine,
    align,
    translate,
    evaluate,
    finetune,
    export,
    recipe,
    report,
    serve,
)
for part in PARTS:
    app.command(part.app)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # what it can't write is escaped, as on stderr
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        arguments = ["/dev/stdin" if a == "-" else a for a in arguments]  # cyclopts takes a lone hyphen for an option
        outcome = app(arguments, exit_on_error=False, print_error=False)
        sys.stdout.flush()
        return outcome if isinstance(outcome, int) else 0
    except cyclopts.CycloptsError as e:
        note(f"interlingua: {' '.join(str(e).split())} See `interlingua --help`.")
        return 2
    except InterlinguaError as e:
        note(f"interlingua: {e}")
        return 2
    except BrokenPipeError:  # the reader of our output has gone, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except SystemExit:  # rich's, when the reader of the help has gone
        return 0
    except OSError as e:  # a folder where a file should be, no permission, a full disk
        note(f"interlingua: {e.filename or 'input/output'}: {e.strerror or e}{fix_of(e.errno)}")
        return 2
    except KeyboardInterrupt:
        note("interlingua: interrupted; the same command continues where it was")
        return 130

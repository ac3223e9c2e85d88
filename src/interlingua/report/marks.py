"""A page to hear mined pairs and mark them right, wrong or unsure; `interlingua mine --marks` reads what it saves."""

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup

from interlingua.files import write_text
from interlingua.index.mine import MinedPair
from interlingua.report.page import environment, resource
from interlingua.report.utterances import clip
from interlingua.types import AudioRef

PAIRS = 40  # on a page


def write_marks_page(path: Path, title: str, pairs: Sequence[tuple[MinedPair, AudioRef, AudioRef]]) -> None:
    """Write the page of `marks_page`."""
    write_text(path, marks_page(title, pairs))


def marks_page(title: str, pairs: Sequence[tuple[MinedPair, AudioRef, AudioRef]]) -> str:
    """The page: pairs, and their recordings, whose first seconds it holds."""
    script = resource("marks.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    rows = [
        {
            "pair": pair,
            "sides": [
                {"id": pair.id_a, "language": pair.language_a, "text": pair.text_a, "player": clip(first)},
                {"id": pair.id_b, "language": pair.language_b, "text": pair.text_b, "player": clip(second)},
            ],
        }
        for pair, first, second in pairs
    ]
    return (
        environment()
        .get_template("marks.html")
        .render(
            title=title,
            rows=rows,
            css=Markup(resource("page.css")),
            script=Markup(script),
            policy="default-src 'none'; style-src 'unsafe-inline'; media-src data:; base-uri 'none'; "
            f"form-action 'none'; script-src 'sha256-{digest}'",
        )
    )

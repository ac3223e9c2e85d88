"""How every picture is made.

Every picture is drawn the same way twice: with dark ink for a PNG, and with a stand-in colour that becomes
``currentColor`` in the page's SVG, so that one drawing serves light and dark. Nothing depends on the
clock, the user's matplotlibrc or a display: the same results give the same bytes.
"""

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import matplotlib
import matplotlib.style
from matplotlib import font_manager
from matplotlib.figure import Figure

from interlingua.files import atomic_file

INK = "#1c1c1c"
STAND_IN = "#010203"  # ink in SVG until it becomes currentColor
PAPER, ACCENT = "#040506", "#070809"  # in SVG until they become the page's own
_PAGE = {STAND_IN: "currentColor", PAPER: "var(--paper)", ACCENT: "var(--accent)"}
_DPI = 200
_OTHER_FONTS = (  # other scripts' letters, where the machine has them
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "WenQuanYi Zen Hei",
    "Noto Sans Arabic",
    "Noto Sans Hebrew",
    "Noto Sans Devanagari",
    "Noto Sans Thai",
)


@contextmanager
def style(ink: str) -> Iterator[None]:
    """matplotlib's own defaults with our ink; letters that no font has become boxes, without a warning."""
    inked = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
    installed = {font.name for font in font_manager.fontManager.ttflist}
    ours = {
        "font.family": ["DejaVu Sans", *(f for f in _OTHER_FONTS if f in installed)],
        "svg.fonttype": "none",
        "text.parse_math": False,
        "axes.linewidth": 0.6,
        "xtick.major.width": 0.6,
        "ytick.major.width": 0.6,
        **dict.fromkeys(inked, ink),
    }
    with warnings.catch_warnings(), matplotlib.style.context(["default", ours]):
        warnings.filterwarnings("ignore", r"Glyph .* missing from font")
        yield


def png(figure: Figure, path: Path) -> Path:
    """Write the figure as a PNG file and return its path."""
    path = Path(path)
    with atomic_file(path) as temporary:
        figure.savefig(
            temporary, format="png", dpi=_DPI, bbox_inches="tight", pad_inches=0.15, facecolor="white",
            metadata={"Software": None},
        )  # fmt: skip
    return path


def svg(figure: Figure, name: str) -> str:
    """The figure as an SVG element to stand in a page: no header, ids of its own, the page's colours."""
    out = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name}):
        figure.savefig(
            out, format="svg", dpi=150, bbox_inches="tight", pad_inches=0.03, transparent=True,
            metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")),
        )  # fmt: skip
    text = out.getvalue()
    text = text[text.index("<svg") :]
    for stand_in, colour in _PAGE.items():
        text = text.replace(stand_in, colour)
    prefix = re.sub(r"[^A-Za-z0-9]+", "-", name) + "-"
    text = re.sub(r'(\bid=")', rf"\1{prefix}", text)
    text = re.sub(r'(url\(#|href="#)', rf"\1{prefix}", text)
    return text.strip()

"""Tables made once and written three times: HTML, CSV and LaTeX say the same, and no text can break any of them."""

import base64
import csv
import io
import re
import shutil
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from test_report import fake_results
from test_report_transfer import fake_transfer

from helpers import save_results
from interlingua.report import write_report
from interlingua.report.page import Opening, Section, environment, write_page
from interlingua.report.tables import DASH, DENSE, LONG, Block, Folded, P, Table, Text, difference, latex_escape, number
from interlingua.results import Difference

ATTACKS = (
    "</script><script>alert('x')</script>", 'quo"tes, and\nlines', "=1+1", "50% & $x_1$ #2 {a} ~ ^ \\input{y} <b>|",
    "\u202eright to left", "من فضلك أدخل", "请输入分机号码", "long " * 400, "[0] *", "",
)  # fmt: skip
LOST = Difference(value=-4.4, ci=(-6.9, 1.9), p_bootstrap=0.0002, p_randomisation=0.21)
MADE = Table(
    name="made",
    title="Made by hand",
    head=["Direction", "System", "chrF [95% CI]", "Difference [95% CI]", "p", "MRR"],
    bodies=[
        [
            [
                Text("en → fr", "never trained on", flag="near chance"), "base",
                number(0.29302325, 100, (0.2432, 0.3471)),
                difference(LOST, both_p=True),
                P(0.0004), number(0.4123, digits=3),
            ],
            ["fr → en", None, number(None), difference(None), P(None), number(-0.02, ci=(-0.04, 0.0), digits=3)],
        ],
        [["ru → en", "base", number(3), difference(Difference(value=2.0)), P(1.0), number(0.5, digits=3)]],
    ],
    caption="What it is.",
    text_columns=2,
)  # fmt: skip


def html_of(*blocks: Block) -> str:
    return str(environment().get_template("blocks.html").module.render(blocks))


class Cells(HTMLParser):
    """The cells of a page's tables as the texts that one sees, those of small print apart."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[list[str]]] = []
        self._within = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append([""])
            self._within = True
        if tag == "span" and dict(attrs).get("class") in ("ci", "sub", "flag"):
            self.rows[-1][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self._within = False

    def handle_data(self, data: str) -> None:
        if self._within:
            self.rows[-1][-1][-1] += data


def cells_of(page: str) -> list[list[list[str]]]:
    parser = Cells()
    parser.feed(page)
    return parser.rows


def csv_rows(made: Table) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(made.csv())))


def test_csv_has_a_column_for_each_part() -> None:
    assert next(csv.reader(io.StringIO(MADE.csv()))) == [
        "Direction", "Direction, note", "System", "chrF", "chrF, low", "chrF, high", "Difference", "Difference, low",
        "Difference, high", "Difference, p bootstrap", "Difference, p randomisation", "p", "MRR", "MRR, low",
        "MRR, high",
    ]  # fmt: skip
    first, second, third = csv_rows(MADE)
    assert first["Direction"] == "en → fr"
    assert first["Direction, note"] == "never trained on; near chance"
    assert (first["chrF"], first["chrF, low"], first["chrF, high"]) == ("29.3023", "24.32", "34.71")
    assert (first["Difference"], first["Difference, low"], first["Difference, p bootstrap"]) == (
        "-4.4",
        "-6.9",
        "0.0002",
    )
    assert (second["System"], second["chrF"], second["Difference"], second["p"]) == ("", "", "", "")
    assert (third["Difference"], third["Difference, low"]) == ("2", "")


def check_same(head: list[str], shown: list[list[list[str]]], kept: list[dict[str, str]]) -> int:
    """Every cell of the page against its columns of CSV; how many numbers with an interval were among them."""
    assert len(shown) == len(kept)
    intervals = 0
    for cells, row in zip(shown, kept, strict=True):
        assert len(cells) == len(head)
        for title, (main, *small) in zip(head, cells, strict=True):
            name, main = title.removesuffix(" [95% CI]"), main.strip("\N{NO-BREAK SPACE}")
            exact = row[name]
            if main == exact or (main, exact) == (DASH, ""):
                continue
            if main == "<0.001":
                assert float(exact) < 0.001
                continue
            digits = len(main.partition(".")[2])
            assert f"{float(exact):.{digits}f}" == f"{figure_of(main):.{digits}f}"
            bounds = [row[f"{name}, {end}"] for end in ("low", "high") if row.get(f"{name}, {end}")]
            intervals += bool(bounds)
            written = re.findall(r"[-+\N{MINUS SIGN}]?\d+(?:\.\d+)?", small[0].replace("–", " ")) if bounds else []
            assert [figure_of(b) for b in written] == [float(f"{float(b):.{digits}f}") for b in bounds]
    return intervals


def figure_of(text: str) -> float:
    return float(text.replace("\N{MINUS SIGN}", "-"))


def test_csv_equals_html_cell_by_cell() -> None:
    head, *rows = cells_of(html_of(MADE))
    assert [cell[0] for cell in head] == MADE.head
    assert check_same(list(MADE.head), rows, csv_rows(MADE)) == 3


@pytest.mark.parametrize("made", [fake_results, fake_transfer])
def test_csv_equals_html_cell_by_cell_in_whole_reports(
    made: Callable[[], dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("interlingua.report.plots.svg", lambda *args, **options: "<svg></svg>")
    save_results(tmp_path, made())
    page = write_report(tmp_path).read_text(encoding="utf-8")
    tables = page.split('<div class="table')[1:]
    assert all(len(list((tmp_path / "tables").glob(f"*.{kind}"))) == len(tables) for kind in ("csv", "tex"))
    intervals = 0
    for part in tables:
        link = re.search(r'download="([^"]+)\.csv" href="data:text/csv;charset=utf-8;base64,([^"]+)"', part)
        assert link
        text = base64.b64decode(link[2]).decode()
        assert (tmp_path / "tables" / f"{link[1]}.csv").read_text(encoding="utf-8") == text
        rows = list(csv.DictReader(io.StringIO(text)))
        shown = cells_of(part.partition("</table>")[0])
        head = [cell[0] for cell in shown.pop(0)] if "<thead>" in part else list(rows[0])
        intervals += check_same(head, shown, rows)
    assert intervals > 20


def test_latex_says_the_same_in_one_line_a_row() -> None:
    text = MADE.latex()
    assert r"\toprule" in text
    assert text.count(r"\midrule") == 2  # below the head, between the groups
    assert r"\caption{Made by hand. What it is.}\label{tab:made}" in text
    assert r"\begin{tabular}{llrrrr}" in text
    assert (
        r"en $\rightarrow$ fr\textdagger{} (never trained on) & base & 29.3 [24.3--34.7] & "
        r"$-$4.4 [$-$6.9, +1.9] p \textless{}0.001 / 0.210 & \textless{}0.001 & 0.412 \\"
    ) in text
    assert r"fr $\rightarrow$ en & -- & -- & -- & -- & -0.020 [-0.040, 0.000] \\" in text


def dense() -> Table:
    others = [f"c{i}" for i in range(DENSE - 1)]
    rows = [[label, number(12.34, ci=(10.0, 14.0)), *("0" for _ in others)] for label in ("[1", "2")]
    return Table(name="dense", title="Dense", head=["n", "Off target before, %", *others], bodies=[rows])


def test_intervals_below_and_long_heads_are_stacked() -> None:
    text = dense().latex()
    assert r"n & \shortstack[r]{Off target \\ before, \%} & c0" in text
    assert r"[1 & \shortstack[r]{12.3 \\ {\scriptsize [10.0--14.0]}} & 0" in text
    assert '12.3<span class="sub">[10.0–14.0]</span>' in html_of(dense())


@pytest.mark.parametrize("name", ["../../etc/passwd", "a b/c", "x" * 300, "日本"])
def test_files_are_named_safely_whatever_stands_in_the_name(name: str) -> None:
    stem = Table(name=name, title="A", head=["n"], bodies=[[["1"]]]).stem
    assert re.fullmatch(r"[A-Za-z0-9+-]{1,80}", stem)


def test_long_table_breaks_over_pages() -> None:
    rows = [[str(i), str(i)] for i in range(LONG + 1)]
    text = Table(name="long", title="Long", head=["a", "b"], bodies=[rows]).latex()
    assert r"\begin{longtable}{lr}" in text
    assert text.count(r"a & b \\") == 2


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("50% & $x_1$ #2", r"50\% \& \$x\_1\$ \#2"),
        (r"\input{y}", r"\textbackslash{}input\{y\}"),
        ("~^", r"\textasciitilde{}\textasciicircum{}"),
        ("a\x00\nb", "a b"),
        ("−4.4 – 2 → 3", r"$-$4.4 -- 2 $\rightarrow$ 3"),
        ("héllo Вы 请", "héllo Вы 请"),
    ],
)
def test_latex_escapes(text: str, escaped: str) -> None:
    assert latex_escape(text) == escaped


def hostile(attacks: tuple[str, ...] = ATTACKS) -> Table:
    rows = [[Text(a, note=a, flag=a, language="ar"), a, number(1.0)] for a in attacks]
    return Table(name="hostile", title=attacks[3], head=["One", "Two", "3"], bodies=[rows], caption=attacks[0])


def test_hostile_text_stays_text() -> None:
    page = html_of(hostile())
    assert "<script" not in page
    assert "<b>" not in page
    _, *rows = cells_of(page)
    assert [row[1][0] for row in rows] == [a or DASH for a in ATTACKS]
    in_csv = [f"'{a}" if a[:1] in tuple("=+-@") else a for a in ATTACKS]  # no formula of a spreadsheet
    assert [row["Two"] for row in csv_rows(hostile())] == in_csv


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no TeX here")
def test_latex_compiles(tmp_path: Path) -> None:
    latin = tuple(a for a in ATTACKS if a.isascii())
    many = Table(name="many", title="Many", head=["a", "b"], bodies=[[["[x", "1"]] * (LONG + 1)])
    tables = "\n".join(t.latex() for t in (MADE, hostile(latin), many, dense()))
    (tmp_path / "all.tex").write_text(
        "\\documentclass{article}\\usepackage{booktabs,longtable}\\begin{document}\n" + tables + "\\end{document}\n"
    )
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"], cwd=tmp_path, capture_output=True
    )
    assert done.returncode == 0, done.stdout.decode()[-2000:]


def test_tables_whose_files_would_have_one_name_are_numbered(tmp_path: Path) -> None:
    def made(name: str) -> Table:
        return Table(name=name, title=name, head=["a", "b"], bodies=[[[name, "1"]]])

    names = ["own.a", "own-a", "λ", "μ", "x" * 90, "x" * 91]
    first, *others = (made(name) for name in names)
    section = Section("s", [first, Folded("More", others)])
    path = tmp_path / "page.html"
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "stale.csv").touch()
    write_page(path, Opening(title="T"), [section], footer="", tables=tmp_path / "tables")
    held = {p.stem: p.read_text(encoding="utf-8").splitlines()[1] for p in (tmp_path / "tables").glob("*.csv")}
    assert sorted(held.values()) == sorted(f"{name},1" for name in names)
    assert len(list((tmp_path / "tables").glob("*.tex"))) == len(names)
    page = path.read_text(encoding="utf-8")
    assert all(f'download="{stem}.csv"' in page for stem in held)


@pytest.mark.parametrize("text", ["=1+1", "+cmd|' /C calc'!A0", "@SUM(A1)", "-2+3", "\tx", "\r=1", "-"])
def test_no_cell_of_a_csv_is_a_formula(text):
    made = Table(name="made", title="", head=["a", "b"], bodies=[[[text, "-1.5"]]])
    expected = "'" + text.replace("\r", "\n")
    assert list(csv.reader(io.StringIO(made.csv())))[1] == [expected, "-1.5"]

"""The page of mined pairs: what it holds, and that its marks are what the command reads."""

import base64
import hashlib
import re

import numpy as np

from helpers import sweep, write_wav
from interlingua.index.mine import MinedPair
from interlingua.report.marks import write_marks_page
from interlingua.types import AudioRef


def pair(n: int, **fields) -> MinedPair:
    common = {"audio": "a.wav", "start": 0.0, "end": 1.0, "text": f"<text> {n}"}
    sides = {f"{name}_{side}": value for side in "ab" for name, value in common.items()}
    figures = {"score": 0.5, "margin": 1.1, "csls": 0.25, "rank_ab": 1, "rank_ba": 1, "duration_ratio": 1.0}
    ids = {"id_a": f'en/{n}"', "id_b": f"fr/{n}", "language_a": "en", "language_b": "fr"}
    return MinedPair(**sides | figures | ids | {"one_to_one": True, "near_copy": False} | fields)


def test_the_page_holds_all_that_is_heard_and_marked(tmp_path):
    audio = AudioRef(str(write_wav(tmp_path / "a.wav", sweep(1.0, 300))))
    gone = AudioRef(str(tmp_path / "gone.wav"))
    page = tmp_path / "out" / "page.html"
    write_marks_page(page, "Pairs of <a> and b", [(pair(1), audio, audio), (pair(2, near_copy=True), audio, gone)])
    text = page.read_text()
    assert text.count("<audio controls") == 3
    assert text.count("can't be read here") == 1
    assert text.count('value="yes"') == text.count('value="no"') == 2
    assert 'data-a="en/1&#34;"' in text
    assert "&lt;text&gt; 1" in text
    assert "<title>Pairs of &lt;a&gt; and b</title>" in text
    assert "near copy" in text
    assert not re.search(r"https?://", text)
    script = re.search(r"<script>(.*)</script>", text, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in text.replace("&#39;", "'")


def test_pairs_around_the_threshold_are_shown():
    from interlingua.index.mine import Scored

    n = 20
    places, csls = np.arange(n), np.linspace(1, 0, n).astype(np.float32)
    ranks = np.ones(n, dtype=np.int64)
    found = Scored.__new__(Scored)
    for name, value in {"i": places, "j": places, "csls": csls, "rank_ab": ranks, "rank_ba": ranks}.items():
        object.__setattr__(found, name, value)
    assert found.around(float(csls[9]), 4).tolist() == [8, 9, 10, 11]
    assert found.around(2.0, 4).tolist() == [0, 1, 2, 3]
    assert found.around(-2.0, 4).tolist() == [16, 17, 18, 19]
    assert found.around(-np.inf, 3).tolist() == [0, 10, 19]
    assert found.around(0.5, 99).tolist() == [*range(20)]

"""What comes from outside the package, and what is wrong with it."""

import pytest

from interlingua.errors import UsageError
from interlingua.registry import Registry

THINGS = Registry("thing", "nothing-is-installed-here", {"one": 1, "root": "math:pi"})


def test_ours_are_found_by_name_and_imported_when_asked_for():
    assert list(THINGS) == ["one", "root"]
    assert (THINGS["one"], round(THINGS["root"], 2), THINGS["math:tau"] > 6) == (1, 3.14, True)
    assert ("one" in THINGS, "two" in THINGS, len(THINGS)) == (True, False, 2)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("two", r"unknown thing 'two'; use one of one, root, or module:attribute"),
        ("nowhere_at_all:x", r"thing 'nowhere_at_all:x': .* \(ModuleNotFoundError: "),
        ("math:nothing", r"can't be imported \(AttributeError: "),
        ("unfinished:x", r"can't be imported \(SyntaxError: "),
        ("failing:x", r"can't be imported \(ZeroDivisionError: division by zero\)"),
    ],
)
def test_what_cant_be_had_is_one_line(tmp_path, monkeypatch, name, message):
    (tmp_path / "unfinished.py").write_text("def x(:\n")
    (tmp_path / "failing.py").write_text("x = 1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UsageError, match=message) as raised:
        THINGS[name]
    assert "\n" not in str(raised.value)

"""The frame store: what goes in comes out, other kinds are refused, and an interrupted write costs nothing."""

import os
import subprocess
import sys
import textwrap
import time
from dataclasses import fields, replace
from pathlib import Path

import lance
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from interlingua.encoding.store import FrameStore, sweep
from interlingua.errors import StoreError, StoreMismatchError
from interlingua.types import Frames, FrameSpec

DIM = 4
SPEC = FrameSpec(model="tiny", revision="abc", layer=2, context="speech", pooling=1, dtype="float16", compute="float32")


def frames(name: str, length: int = 3, *, dtype: str = "float16", audio_hash: str = "", seed: int = 0) -> Frames:
    values = np.random.default_rng([seed, *name.encode()]).normal(size=(length, DIM)).astype(dtype)
    return Frames(name, values, max(1, length - 1), audio_hash)


def assert_same(found, expected):
    assert [f.id for f in found] == [f.id for f in expected]
    for f, e in zip(found, expected, strict=True):
        assert f.values.dtype == e.values.dtype
        np.testing.assert_array_equal(f.values, e.values)
        assert (f.n_speech, f.audio_hash) == (e.n_speech, e.audio_hash)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "frames.lance"


@pytest.fixture
def store(path):
    """A store of five utterances, written in two commits."""
    made = FrameStore.create(path, SPEC, DIM)
    made.write([frames("a", 1), frames("b", 7), frames("c", 2)])
    made.write([frames("d", 3), frames("e", 1500)])
    return made


# ---------------------------------------------------------------- round trip


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_what_is_written_is_read_bit_for_bit(path, dtype):
    written = [frames(n, 2 + i, dtype=dtype, audio_hash=f"hash-{n}") for i, n in enumerate(["a", "fr/été", "c d"])]
    FrameStore.create(path, replace(SPEC, dtype=dtype), DIM).write(written)
    assert_same(FrameStore.open(path).read([f.id for f in written]), written)


def test_int8_keeps_frames_to_half_a_step(path):
    random = np.random.default_rng(0)
    values = (random.normal(size=(7, DIM)) * 10.0 ** np.arange(-3, 4)[:, None]).astype(np.float16)
    values[3] = 0
    made = FrameStore.create(path, replace(SPEC, dtype="int8"), DIM)
    made.write([Frames("a", values, 7), Frames("b", values[:2], 2)])
    made.write([Frames("c", values[4:], 3)])
    c, b, a = FrameStore.open(path).read(["c", "b", "a"])
    assert a.values.dtype == np.float16
    step = np.abs(values.astype(np.float32)).max(axis=1, keepdims=True) / 127
    error = np.abs(a.values.astype(np.float32) - values.astype(np.float32))
    assert (error <= 0.5 * step * 1.01 + 2.0**-11 * np.abs(values)).all()
    assert (a.values[3] == 0).all()
    np.testing.assert_array_equal(b.values, a.values[:2])
    np.testing.assert_array_equal(c.values, a.values[4:])
    assert [f.id for f in FrameStore.open(path)] == ["a", "b", "c"]


def test_int8_takes_half_the_disk(tmp_path):
    size = {}
    for dtype in ("float16", "int8"):
        made = FrameStore.create(tmp_path / dtype, replace(SPEC, dtype=dtype), 256)
        made.write([Frames("a", np.random.default_rng(0).normal(size=(1000, 256)).astype(np.float16), 1000)])
        size[dtype] = sum(f.stat().st_size for f in (tmp_path / dtype).rglob("*.lance"))
    assert 0.45 < size["int8"] / size["float16"] < 0.6


def test_extreme_values_survive(path):
    values = np.array([[np.inf, -np.inf, 65504, 6e-8], [0, -0.0, 1, np.nan]], dtype=np.float16)
    store = FrameStore.create(path, SPEC, DIM)
    store.write([Frames("a", values, 2)])
    np.testing.assert_array_equal(store.read(["a"])[0].values, values)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.integers(1, 5), min_size=1, max_size=4), min_size=1, max_size=3), st.randoms())
def test_any_lengths_in_any_commits(tmp_path_factory, commits, random):
    store = FrameStore.create(tmp_path_factory.mktemp("store") / "s", SPEC, DIM)
    written = []
    for lengths in commits:
        batch = [frames(f"u{len(written) + i}", n) for i, n in enumerate(lengths)]
        store.write(batch)
        written += batch
    random.shuffle(written)
    assert_same(store.read([f.id for f in written]), written)


def test_reading_keeps_the_order_asked_for(store):
    for ids in (["e", "a", "d"], ["b"], [], ["c", "a", "b", "e", "d"]):
        assert [f.id for f in store.read(ids)] == ids


def test_asking_twice_gives_it_twice(store):
    assert_same(store.read(["b", "a", "b"]), [frames("b", 7), frames("a", 1), frames("b", 7)])


def test_speech_is_the_first_frames(store):
    (found,) = store.read(["b"])
    assert (found.n_speech, found.speech.shape, found.values.shape) == (6, (6, DIM), (7, DIM))


def test_iteration_visits_everything_once(store):
    assert_same(list(store), [frames("a", 1), frames("b", 7), frames("c", 2), frames("d", 3), frames("e", 1500)])


def test_length_membership_and_ids(store):
    assert len(store) == 5
    assert store.ids() == ["a", "b", "c", "d", "e"]
    assert "a" in store
    assert "z" not in store
    assert 5 not in store


def test_an_empty_store(path):
    store = FrameStore.create(path, SPEC, DIM)
    assert (len(store), store.ids(), list(store), store.read([]), store.hashes()) == (0, [], [], [], {})


# ---------------------------------------------------------------- writing again


def test_an_id_that_is_held_is_replaced(store):
    new = [frames("b", 2, seed=1, audio_hash="new"), frames("f", 4)]
    store.write(new)
    assert len(store) == 6
    assert_same(store.read(["b", "f", "a"]), [*new, frames("a", 1)])
    assert store.hashes()["b"] == "new"
    assert store.n_speech() == {f.id: f.n_speech for f in store}


def test_replacing_many_times_keeps_every_id_once(store):
    for seed in range(1, 4):
        store.write([frames(n, seed, seed=seed) for n in ("a", "d")])
    assert sorted(store.ids()) == ["a", "b", "c", "d", "e"]
    assert_same(store.read(["a", "c", "d"]), [frames("a", 3, seed=3), frames("c", 2), frames("d", 3, seed=3)])


def test_an_id_twice_in_one_write_is_held_once(store):
    store.write([frames("x", 2), frames("x", 3, seed=1)])
    assert [f.id for f in store].count("x") == 1
    assert len(store) == len(store.ids()) == 6


def test_deleting(store, path):
    store.write([frames("it's")])
    before = store.version
    store.delete(["b", "it's", "unknown", "e"])
    assert store.ids() == FrameStore.open(path).ids() == ["a", "c", "d"]
    assert_same(store.read(["d", "a"]), [frames("d", 3), frames("a", 1)])
    assert store.version == before + 1
    store.delete(["unknown"])
    assert store.version == before + 1
    store.write([frames("b", 4, seed=1)])
    assert_same(store.read(["b", "c"]), [frames("b", 4, seed=1), frames("c", 2)])


def test_every_write_is_one_version(store):
    before = store.version
    store.write([frames("x"), frames("y")])
    assert store.version == before + 1
    store.write([])
    assert store.version == before + 1


def test_a_second_handle_sees_appends_when_opened_and_keeps_its_view_till_then(store, path):
    early = FrameStore.open(path)
    store.write([frames("x")])
    assert "x" in FrameStore.open(path)
    assert early.ids() == ["a", "b", "c", "d", "e"]
    assert_same(early.read(["e"]), [frames("e", 1500)])


def test_two_handles_may_append_in_turn(store, path):
    other = FrameStore.open(path)
    store.write([frames("x")])
    other.write([frames("y")])
    assert {"x", "y"} <= set(other.ids())
    store.write([frames("z")])
    assert_same(FrameStore.open(path).read(["z", "y", "x"]), [frames("z"), frames("y"), frames("x")])


def test_two_handles_that_write_the_same_id_leave_it_once(store, path):
    other = FrameStore.open(path)
    store.write([frames("x")])
    other.write([frames("x", 5, seed=1)])
    after = FrameStore.open(path)
    assert [f.id for f in after].count("x") == 1
    assert len(after) == len(after.ids()) == 6


# ---------------------------------------------------------------- what the frames are


def test_the_spec_survives_reopening(path):
    spec = FrameSpec(
        "openai/whisper-base", "d01c", layer=4, context="speech+8", pooling=1, dtype="float32", compute="bfloat16"
    )
    FrameStore.create(path, spec, DIM).write([frames("a", dtype="float32")])
    found = FrameStore.open(path)
    assert (found.spec, found.dim) == (spec, DIM)
    found.write([frames("a", seed=1, dtype="float32")])  # replacing must not lose the metadata
    assert FrameStore.open(path).spec == spec


def test_a_store_that_names_no_rate_is_whisper_s(path, monkeypatch):
    monkeypatch.setattr(
        "interlingua.encoding.store.asdict", lambda spec: {k: v for k, v in vars(spec).items() if k != "rate"}
    )
    FrameStore.create(path, SPEC, DIM)
    assert b"rate" not in lance.dataset(str(path)).schema.metadata
    assert FrameStore.open(path).spec.rate == 50.0
    assert FrameStore.open_or_create(path, SPEC, DIM).spec == SPEC


@pytest.mark.parametrize(
    ("field", "other"),
    [
        ("model", "base"),
        ("revision", "abd"),
        ("layer", 1),
        ("context", "full"),
        ("pooling", 2),
        ("dtype", "float32"),
        ("compute", "bfloat16"),
        ("rate", 12.5),
    ],
)
def test_another_kind_is_refused_and_the_field_named(store, path, field, other):
    spec = replace(SPEC, **{field: other})
    with pytest.raises(StoreMismatchError, match=rf"holds frames with {field} .*{other!r}"):
        FrameStore.open_or_create(path, spec, DIM)
    assert FrameStore.open_or_create(path, SPEC, DIM).spec == SPEC


def test_every_field_of_the_spec_is_compared():
    marks = test_another_kind_is_refused_and_the_field_named.pytestmark
    assert {f.name for f in fields(FrameSpec)} == {case[0] for case in marks[0].args[1]}


def test_another_width_is_refused(store, path):
    with pytest.raises(StoreMismatchError, match=r"4 wide, not 8"):
        FrameStore.open_or_create(path, SPEC, 8)


@pytest.mark.parametrize(
    "values",
    [
        np.zeros((3, DIM), np.float32),
        np.zeros((3, DIM), np.float64),
        np.zeros((3, DIM + 1), np.float16),
        np.zeros(DIM, np.float16),
        np.zeros((1, 3, DIM), np.float16),
    ],
)
def test_frames_of_another_shape_or_type_are_refused_and_nothing_is_written(store, values):
    with pytest.raises(StoreMismatchError, match=r"frames of 'bad' are"):
        store.write([frames("good"), Frames("bad", values, 1)])
    assert "good" not in store


def test_open_or_create_makes_a_store_where_there_is_none(tmp_path):
    made = FrameStore.open_or_create(tmp_path / "deep" / "er" / "s.lance", SPEC, DIM)
    made.write([frames("a")])
    assert FrameStore.open_or_create(tmp_path / "deep" / "er" / "s.lance", SPEC, DIM).ids() == ["a"]


def test_open_or_create_fills_an_empty_folder(tmp_path):
    assert FrameStore.open_or_create(tmp_path, SPEC, DIM).ids() == []


def test_create_refuses_a_store_that_exists(store, path):
    with pytest.raises(StoreError, match="can't create"):
        FrameStore.create(path, SPEC, DIM)
    assert len(FrameStore.open(path)) == 5


def test_nothing_there(tmp_path):
    with pytest.raises(StoreError, match=r"none.lance: no frame store here; make one with `interlingua encode`"):
        FrameStore.open(tmp_path / "none.lance")


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_something_else_there_is_left_alone(tmp_path, kind):
    path = tmp_path / "precious"
    if kind == "folder":
        path.mkdir()
        (path / "thesis.txt").write_text("my only copy")
    else:
        path.write_text("my only copy")
    with pytest.raises(StoreError):
        FrameStore.open_or_create(path, SPEC, DIM)
    kept = path / "thesis.txt" if kind == "folder" else path
    assert kept.read_text() == "my only copy"


def test_a_foreign_lance_dataset_is_no_frame_store(path):
    lance.write_dataset(pa.table({"id": ["a"]}), str(path))
    for open_it in (FrameStore.open, lambda p: FrameStore.open_or_create(p, SPEC, DIM)):
        with pytest.raises(StoreError, match="not a frame store of interlingua"):
            open_it(path)


def test_a_missing_id_is_named(store):
    with pytest.raises(StoreError, match=r"2 of 3 utterances are not in the store \(the first is 'x'\)"):
        store.read(["a", "x", "y"])


# ---------------------------------------------------------------- interruptions


def test_a_write_that_is_killed_leaves_the_last_version(store, path):
    """The data are on disk when the process dies, the commit is not."""
    script = f"""
        import os
        import lance, numpy as np
        from interlingua.encoding.store import FrameStore
        from interlingua.types import Frames

        store = FrameStore.open({str(path)!r})
        def batches():
            yield from store._table([Frames("x", np.ones((5000, {DIM}), np.float16), 1)]).to_batches()
            os._exit(9)
        lance.write_dataset(batches(), {str(path)!r}, mode="append", schema=store._dataset.schema)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True)
    assert done.returncode == 9, done.stderr
    after = FrameStore.open(path)
    assert after.ids() == store.ids()
    after.write([frames("x")])
    assert_same(FrameStore.open(path).read(["e", "x"]), [frames("e", 1500), frames("x")])


def test_a_damaged_file_is_named(store, path):
    for part in (path / "data").iterdir():
        part.write_bytes(part.read_bytes()[: part.stat().st_size // 2])
    with pytest.raises(StoreError, match="damaged"):
        FrameStore.open(path).read(["a"])


def test_orphaned_files_are_ignored(store, path):
    (path / "data" / "00000000-dead-beef.lance").write_bytes(b"half a fragment")
    (path / "_versions" / ".tmp-99.manifest").write_bytes(b"half a manifest")
    after = FrameStore.open(path)
    after.write([frames("x")])
    assert after.ids() == ["a", "b", "c", "d", "e", "x"]


# ---------------------------------------------------------------- damage


@pytest.mark.parametrize("dtype", ["float16", "int8"])
@pytest.mark.parametrize("change", [{"n_speech": "n_speech - 1"}, {"audio_hash": "'other'"}, {"checksum": "7"}])
def test_a_row_that_is_not_what_was_written_is_refused(path, dtype, change):
    FrameStore.create(path, replace(SPEC, dtype=dtype), DIM).write([frames("a", 4), frames("b", 7)])
    lance.dataset(path).update(change, where="id = 'b'")
    store = FrameStore.open(path)
    assert [f.id for f in store.read(["a"])] == ["a"]
    for read in (lambda: store.read(["b"]), lambda: list(store)):
        with pytest.raises(StoreError, match=r"the frames of 'b' are damaged.*encode again"):
            read()


def test_other_frames_have_another_checksum():
    from interlingua.encoding.store import checksum

    values = np.random.default_rng(0).normal(size=(6, DIM)).astype(np.float16)
    whole = checksum("a", 5, "h", values)
    spoilt = values.copy()
    spoilt.view(np.uint16)[3, 1] ^= 1
    assert (
        len({whole, checksum("a", 5, "h", spoilt), checksum("a", 5, "h", values[:5]), checksum("b", 5, "h", values)})
        == 4
    )


def test_a_store_of_an_older_version_has_no_checksums(path, store):
    lance.dataset(path).drop_columns(["checksum"])
    old = FrameStore.open(path)
    old.write([frames("f", 2)])
    assert_same(old.read(["b", "f"]), [frames("b", 7), frames("f", 2)])
    assert "checksum" not in lance.dataset(path).schema.names


def test_what_a_killed_writer_left_is_swept(path):
    """Lance's half-written files; one that may still be written stays."""
    made = FrameStore.create(path, SPEC, DIM)
    begun = time.time()
    old, new = (Path(made.path) / "data" / name for name in (".tmpAbC123", ".tmpDeF456"))
    for file, age in ((old, 60), (new, -1)):
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"half")
        os.utime(file, (begun - age, begun - age))
    sweep(made.path, begun)
    assert not old.exists()
    assert new.exists()
    sweep("s3://bucket/frames.lance", begun)

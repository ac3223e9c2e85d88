"""Audio inside archives: read in place, whatever the kind; what would leave an archive is refused."""

import gzip
import io
import stat
import tarfile
import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from helpers import sweep, write_wav
from interlingua.audio import archives, audio_hash, duration_of, load_audio, sample_rate_of
from interlingua.audio.archives import list_members, read_member, row_member
from interlingua.errors import AudioError, AudioNotFoundError, TruncatedAudioError
from interlingua.types import AudioRef
from trees import mp3_bytes, pack, wav_bytes

SOUNDS = {f"audio/test/{n}.wav": wav_bytes(sweep(0.4 + 0.1 * n, pitch=200 + 90 * n, seed=n)) for n in range(4)}
NAMES = list(SOUNDS)


def parquet(path, values, *, column="audio", group=2):
    pq.write_table(pa.table({column: values}), path, row_group_size=group)
    return path


@pytest.fixture(params=["tar", "tar.gz", "zip", "parquet"])
def archive(request, tmp_path):
    """(path, member of the nth sound) in every kind of archive."""
    path = tmp_path / f"sounds.{request.param}"
    if request.param == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
            for name, data in SOUNDS.items():
                out.writestr(name, data)
    elif request.param == "parquet":
        parquet(path, [{"bytes": data, "path": name} for name, data in SOUNDS.items()])
        return path, [row_member(n) for n in range(4)]
    else:
        pack(path, SOUNDS)
    return path, NAMES


@pytest.fixture
def opened(monkeypatch):
    """How often an archive was indexed; none is open when the test begins."""
    monkeypatch.setattr(archives, "_open", type(archives._open)())
    counts: list[str] = []
    index = archives._kind

    def count(path):
        counts.append(path.name)
        return index(path)

    monkeypatch.setattr(archives, "_kind", count)
    return counts


# ---------------------------------------------------------------- what is inside is read as if it lay outside


def test_a_member_is_its_file(archive, tmp_path):
    path, members = archive
    for member, data in zip(members, SOUNDS.values(), strict=True):
        inside, outside = AudioRef(str(path), member=member), tmp_path / "out.wav"
        outside.write_bytes(data)
        np.testing.assert_array_equal(load_audio(inside), load_audio(outside))
        assert audio_hash(inside) == audio_hash(AudioRef(str(outside)))
        assert duration_of(inside) == duration_of(outside)
        assert sample_rate_of(inside) == 16_000


def test_a_stretch_of_a_member(archive):
    path, members = archive
    whole = load_audio(AudioRef(str(path), member=members[1]))
    part = load_audio(AudioRef(str(path), offset=0.1, duration=0.2, member=members[1]))
    np.testing.assert_array_equal(part, whole[1600:4800])


def test_members_in_any_order_and_twice(archive):
    path, members = archive
    data = list(SOUNDS.values())
    for n in (3, 0, 2, 2, 1, 3, 0):
        assert read_member(path, members[n]) == data[n]


def test_the_name_s_ending_tells_a_format_without_a_header(tmp_path):
    samples = np.frombuffer(b"\x00" * 800, np.uint8)
    path = pack(tmp_path / "a.tar", {"a.g722": samples.tobytes()})
    assert len(load_audio(AudioRef(str(path), member="a.g722"))) == 1600


def test_the_content_tells_the_kind_of_archive(tmp_path):
    path = pack(tmp_path / "a.tar.gz", SOUNDS).rename(tmp_path / "audio.bin")
    assert read_member(path, NAMES[2]) == SOUNDS[NAMES[2]]


def test_leading_dots_don_t_matter(tmp_path):
    path = pack(tmp_path / "a.tar", {"./test/1.wav": b"x"})
    assert list(list_members(path).sizes) == ["test/1.wav"]
    assert read_member(path, "test/1.wav") == read_member(path, "./test/1.wav") == b"x"


def test_threads_read_at_the_same_time(archive):
    path, members = archive
    data = list(SOUNDS.values())
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda n: read_member(path, members[n % 4]), range(64)))
    assert found == [data[n % 4] for n in range(64)]


# ---------------------------------------------------------------- cost


def test_an_archive_is_indexed_once(archive, opened):
    path, members = archive
    for member in members * 3:
        read_member(path, member)
    assert opened == [path.name]


def test_an_archive_that_changed_is_indexed_anew(tmp_path, opened):
    path = pack(tmp_path / "a.tar", {"a.wav": b"old"})
    assert read_member(path, "a.wav") == b"old"
    pack(path, {"longer.wav": b"", "a.wav": b"new " * 5000})
    assert read_member(path, "a.wav") == b"new " * 5000
    assert len(opened) == 2


def test_a_forked_process_shares_no_open_file(archive, opened, monkeypatch):
    path, members = archive
    read_member(path, members[0])
    monkeypatch.setattr(archives.os, "getpid", lambda: -1)
    read_member(path, members[0])
    assert opened == [path.name] * 2


def test_few_archives_stay_open(tmp_path, opened):
    for n in range(9):
        read_member(pack(tmp_path / f"{n}.tar", {"a": b"x"}), "a")
    assert len(archives._open) == archives._KEPT_OPEN


@pytest.fixture
def long_archive(tmp_path, monkeypatch, opened):
    """A tar.gz of 300 members of 10 kB, with a state kept every 200 kB, and what was decompressed."""
    monkeypatch.setattr(archives, "SPACING", 200_000)
    made = np.random.default_rng(0)
    files = {f"{n}.wav": made.bytes(5000) + bytes(5000) for n in range(300)}
    path = pack(tmp_path / "long.tar.gz", files)
    handed = []
    more = archives._Gunzip._more

    def count(self):
        before = bool(self._buffer)
        found = more(self)
        handed.append(0 if before else len(self._buffer))
        return found

    monkeypatch.setattr(archives._Gunzip, "_more", count)
    list_members(path)
    handed.clear()
    return path, files, handed


def test_a_tar_gz_in_its_own_order_is_decompressed_once(long_archive):
    path, files, handed = long_archive
    for name, data in files.items():
        assert read_member(path, name) == data
        assert read_member(path, name) == data  # hashed first, then decoded
    assert sum(handed) < 1.1 * sum(map(len, files.values())) + 1_000_000


def test_a_tar_gz_in_another_order_costs_a_stretch_each(long_archive):
    path, files, handed = long_archive
    for name in reversed(files):
        assert read_member(path, name) == files[name]
    assert sum(handed) < 300 * 700_000  # 1.5 MB each, were there no states


# ---------------------------------------------------------------- refused


def evil_tar(path):
    with tarfile.open(path, "w") as tar:
        for name in ("good.wav", "../climbs.wav", "/absolute.wav", "a/../../b.wav"):
            member = tarfile.TarInfo(name)
            member.size = 4
            tar.addfile(member, io.BytesIO(b"data"))
        for kind, name in ((tarfile.SYMTYPE, "soft.wav"), (tarfile.LNKTYPE, "hard.wav")):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            tar.addfile(member)
    return path


def evil_zip(path):
    with zipfile.ZipFile(path, "w") as out:
        for name in ("good.wav", "../climbs.wav", "/absolute.wav", "a/../../b.wav"):
            out.writestr(name, b"data")
        for name in ("soft.wav", "hard.wav"):
            link = zipfile.ZipInfo(name)
            link.external_attr = (stat.S_IFLNK | 0o777) << 16
            out.writestr(link, b"/etc/passwd")
    return path


@pytest.mark.parametrize("make", [evil_tar, evil_zip])
def test_what_would_leave_the_archive_is_refused(make, tmp_path):
    path = make(tmp_path / "evil")
    listing = list_members(path)
    assert listing.sizes == {"good.wav": 4}
    assert len(listing.refused) == 5
    assert read_member(path, "good.wav") == b"data"
    for name, why in (
        ("../climbs.wav", "climbs out"),
        ("a/../../b.wav", "climbs out"),
        ("/absolute.wav", "absolute"),
        ("C:\\a.wav", "absolute"),
        ("..\\climbs.wav", "climbs out"),
        ("", "no usable name"),
        ("soft.wav", "is a link"),
        ("hard.wav", "is a link"),
    ):
        with pytest.raises(AudioError, match=why) as caught:
            read_member(path, name)
        assert "\n" not in str(caught.value)


def test_a_huge_member_is_refused_before_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_MEMBER", 3)
    with pytest.raises(AudioError, match=r"has 4 bytes; unpack it"):
        read_member(pack(tmp_path / "a.tar", {"a": b"four"}), "a")


# ---------------------------------------------------------------- what is wrong


def test_no_such_member(archive):
    path, _ = archive
    with pytest.raises(AudioNotFoundError, match=r"no member 'none.wav'"):
        load_audio(AudioRef(str(path), member="none.wav"))


def test_no_such_archive(tmp_path):
    with pytest.raises(AudioNotFoundError, match=r"none.tar: no such file"):
        load_audio(AudioRef(str(tmp_path / "none.tar"), member="a.wav"))


def test_a_folder_and_a_text_are_no_archives(tmp_path):
    with pytest.raises(AudioError, match=r"a folder, not an archive"):
        read_member(tmp_path, "a.wav")
    for content in (b"", b"no archive " * 100, SOUNDS[NAMES[0]]):
        (tmp_path / "a.tar").write_bytes(content)
        with pytest.raises(AudioError, match=r"no tar, tar.gz, zip or parquet file"):
            read_member(tmp_path / "a.tar", "a.wav")


def test_an_archive_that_was_cut(archive, opened):
    path, members = archive
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    with pytest.raises(AudioError, match=r"fetch it again") as caught:
        read_member(path, members[3])
    assert "\n" not in str(caught.value)


def test_a_locked_zip(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as out:
        out.writestr("a.wav", b"data")
    data = bytearray(path.read_bytes())
    data[6] |= 1  # the flag in both headers
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(AudioError, match=r"can't be read in place"):
        read_member(path, "a.wav")


def test_a_gzip_file_of_several_parts_and_with_zeros_behind(tmp_path):
    plain = pack(tmp_path / "a.tar", SOUNDS).read_bytes()
    half = len(plain) // 2
    path = tmp_path / "a.tar.gz"
    path.write_bytes(gzip.compress(plain[:half]) + gzip.compress(plain[half:]) + bytes(1000))
    for name in reversed(NAMES):
        assert read_member(path, name) == SOUNDS[name]


def test_a_broken_member_names_the_archive_and_itself(tmp_path):
    path = pack(tmp_path / "a.tar", {"a.wav": SOUNDS[NAMES[0]][:2000]})
    with pytest.raises(TruncatedAudioError, match=r"a\.tar::a\.wav: ends after"):
        load_audio(AudioRef(str(path), member="a.wav"))


# ---------------------------------------------------------------- parquet


def test_rows_are_counted_over_all_groups_of_a_file(tmp_path):
    path = parquet(tmp_path / "a.parquet", [{"bytes": bytes([n]), "path": None} for n in range(7)], group=3)
    assert [read_member(path, row_member(n)) for n in range(7)] == [bytes([n]) for n in range(7)]
    with pytest.raises(AudioNotFoundError, match=r"no row 7; it has 7, counted from 0"):
        read_member(path, "row=7")


def test_another_column_and_plain_bytes(tmp_path):
    path = parquet(tmp_path / "a.parquet", [b"one", b"two"], column="speech")
    assert read_member(path, row_member(1, "speech")) == b"two"
    with pytest.raises(AudioNotFoundError, match=r"no column 'audio'; it has speech"):
        read_member(path, "row=1")


def test_a_row_without_bytes_may_name_a_file_beside_it(tmp_path):
    write_wav(tmp_path / "clips" / "a.wav", sweep(0.4, 300))
    values = [{"bytes": None, "path": path} for path in ("clips/a.wav", "clips/none.wav", "/etc/passwd", None)]
    path = parquet(tmp_path / "a.parquet", values)
    assert duration_of(AudioRef(str(path), member="row=0")) == pytest.approx(0.4)
    for n in (1, 2, 3):
        with pytest.raises(AudioNotFoundError, match=rf"row={n} has no audio bytes"):
            read_member(path, f"row={n}")


def test_mp3_bytes_in_a_row(tmp_path):
    path = parquet(tmp_path / "a.parquet", [{"bytes": mp3_bytes(sweep(1, 300)), "path": "a.mp3"}])
    assert duration_of(AudioRef(str(path), member="row=0")) == pytest.approx(1, abs=0.1)


# --- made to harm ----------------------------------------------------------------------------------------


def header(name=b"a.wav", size=0, kind=tarfile.REGTYPE):
    """A tar header of any size, signed as GNU's tar writes sizes that take more than eleven octal digits."""
    info = tarfile.TarInfo(name.decode())
    info.type = kind
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    block[124:136] = (size if size >= 0 else (1 << 96) + size).to_bytes(12, "big")
    block[124] |= 0x80
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("blocks", "why"),
    [
        (header(b"long", 4 << 30, tarfile.GNUTYPE_LONGNAME), "4294967296 bytes say how"),
        (header(b"link", 1 << 40, tarfile.GNUTYPE_LONGLINK), "bytes say how"),
        (header(b"pax", 4 << 30, tarfile.XHDTYPE), "bytes say how"),
        (header(b"all", 4 << 30, tarfile.XGLTYPE), "bytes say how"),
        (header(size=-512), "a size of -512"),
        (header(size=-1), "a size of -1"),
        (header(size=1 << 62), "a size of 4611686018427387904"),
        (header(size=1 << 40), "ends early|unexpected end"),
    ],
)
def test_sizes_that_no_member_has(tmp_path, blocks, why, packed):
    path = tmp_path / "evil.tar"
    data = blocks + b"x" * 1024
    path.write_bytes(gzip.compress(data) if packed else data)
    with pytest.raises(AudioError, match=why) as caught:
        read_member(path, "a.wav")
    assert "evil.tar" in str(caught.value)


@pytest.fixture
def small_limits(monkeypatch):
    monkeypatch.setattr(archives, "FREE_BYTES", 1 << 20)


def test_a_tar_gz_that_unpacks_without_end_is_refused(tmp_path, small_limits):
    path = tmp_path / "bomb.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for name, size in (("zeros.wav", 64 << 20), ("a.wav", 100)):
            info = tarfile.TarInfo(name)
            info.size = size
            tar.addfile(info, io.BytesIO(bytes(size)))
    with pytest.raises(AudioError, match=r"bomb.tar.gz: can't be read in place \(\d+ bytes unpack to \d+ and more"):
        read_member(path, "a.wav")


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_zip_that_unpacks_to_far_more_is_refused(tmp_path, small_limits, method):
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", method) as out:
        out.writestr("a.wav", bytes(4 << 20))
        out.writestr("b.wav", np.random.default_rng(0).bytes(2 << 20))
    with pytest.raises(AudioError, match="bytes unpack to"):
        read_member(path, "a.wav")
    assert len(read_member(path, "b.wav")) == 2 << 20


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_broken_entries_of_a_zip_are_named(tmp_path, method):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", method) as out:
        out.writestr("a.wav", np.random.default_rng(0).bytes(3000))
    whole = path.read_bytes()
    for at in range(30, 300, 7):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 255, whole[at + 1] ^ 255]) + whole[at + 2 :])
        with pytest.raises(AudioError, match=r"a\.zip") as caught:
            read_member(path, "a.wav")
        assert "\n" not in str(caught.value)


def test_a_row_group_of_a_parquet_file_has_a_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_MEMBER", 1000)
    path = parquet(tmp_path / "a.parquet", [{"bytes": bytes(range(256)) * 8, "path": None}])
    with pytest.raises(AudioError, match=r"row group 0 has .* bytes of audio"):
        read_member(path, "row=0")

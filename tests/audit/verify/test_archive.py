"""The container of bundles: one spelling only, and every byte of it accounted for (must-show 8)."""

from __future__ import annotations

import io
import struct
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.verify import archive as module
from audit.verify.archive import Content, Zip64From, open_archive, write_archive
from audit.verify.errors import ArchiveRefused

MEMBERS = {"a.txt": b"first", "b/c.tsv": b"1\tx\n2\ty\n", "empty": b"", "z": bytes(range(256)) * 5}


def _written(members: dict[str, bytes]) -> bytes:
    held = io.BytesIO()
    assert write_archive(held, members.items()) == len(held.getvalue())
    return held.getvalue()


def _read(content: bytes) -> dict[str, bytes]:
    with open_archive(io.BytesIO(content)) as archive:
        return {name: archive.read(name, 1 << 20) for name in archive.members}


def _foreign(*members: tuple[str, bytes], method: int = zipfile.ZIP_STORED, comment: bytes = b"") -> bytes:
    """A zip file as Python writes it, as near to ours as it comes."""
    held = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(held, "w", method) as file:
        warnings.simplefilter("ignore")  # Two members of one name.
        for name, content in members:
            info = zipfile.ZipInfo(name)
            info.compress_type, info.external_attr, info.create_system = method, 0o100644 << 16, 3
            file.writestr(info, content)
        file.comment = comment
    return held.getvalue()


@given(st.dictionaries(st.from_regex(r"[a-c]{1,3}(/[a-c]{1,3})?", fullmatch=True), st.binary(max_size=40), max_size=6))
def test_what_is_written_is_read(members: dict[str, bytes]) -> None:
    """Given any members, when written and read, then they are the same, here and in Python's own reader."""
    content = _written(members)
    assert _read(content) == members
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        assert {name: file.read(name) for name in file.namelist()} == members
        assert file.namelist() == sorted(members)


def test_the_same_members_give_the_same_bytes(tmp_path: Path) -> None:
    """Given members as bytes, as files and in pieces, in any order, then the archive is the same, byte by byte."""
    (tmp_path / "z").write_bytes(MEMBERS["z"])

    def pieces() -> Iterator[bytes]:
        yield b"1\tx\n"
        yield b"2\ty\n"

    target = tmp_path / "bundle.zip"
    for lines in (pieces(), pieces):
        mixed: list[tuple[str, Content]]
        mixed = [("z", tmp_path / "z"), ("empty", b""), ("b/c.tsv", lines), ("a.txt", b"first")]
        target.unlink(missing_ok=True)
        write_archive(target, mixed)
        assert target.read_bytes() == _written(MEMBERS) == _foreign(*MEMBERS.items())
    assert target.stat().st_mode & 0o777 == 0o600


def test_a_member_that_changes_while_it_is_written_is_refused() -> None:
    """Given a content that is not the same when it is copied as when it was measured, then writing stops."""
    given = iter((b"one", b"two"))
    with pytest.raises(OSError, match="changed while it was put into a bundle"):
        write_archive(io.BytesIO(), [("a", lambda: iter((next(given),)))])


def test_a_bundle_is_never_written_over(tmp_path: Path) -> None:
    """Given a file that exists, when a bundle is to be written there, then it is left as it is."""
    (tmp_path / "kept").write_bytes(b"kept")
    with pytest.raises(FileExistsError):
        write_archive(tmp_path / "kept", MEMBERS.items())
    assert (tmp_path / "kept").read_bytes() == b"kept"


@pytest.mark.parametrize("name", ["", "/a", "../a", "a/../b", "a//b", "a/", ".a", "a\\b", "a b", "ä", "a\0", "a" * 201])
def test_no_member_has_a_name_that_leads_elsewhere(name: str) -> None:
    """Given a name that is absolute, climbs, or is not plain, then it is neither written nor read."""
    with pytest.raises(ValueError, match="No member"):
        write_archive(io.BytesIO(), [(name, b"")])
    if name and "\0" not in name:
        with pytest.raises(ArchiveRefused, match=r"name that no file|not as a bundle writes it"):
            _read(_foreign((name, b"")))


@pytest.mark.parametrize("bit", range(8))
def test_every_changed_byte_is_refused(bit: int) -> None:
    """Given an archive, when any one byte is changed, then reading it all is refused."""
    content = bytearray(_written(MEMBERS))
    for at in range(len(content)):
        content[at] ^= 1 << bit
        with pytest.raises(ArchiveRefused):
            _read(bytes(content))
        content[at] ^= 1 << bit


def test_every_missing_or_added_byte_is_refused() -> None:
    """Given an archive, when a byte is cut out or put in anywhere, or the end cut off, then it is refused."""
    content = _written(MEMBERS)
    for at in range(len(content)):
        for changed in (content[:at] + content[at + 1 :], content[:at] + b"\0" + content[at:], content[:at]):
            with pytest.raises(ArchiveRefused):
                _read(changed)
    with pytest.raises(ArchiveRefused):
        _read(content + b"\0")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"#!/bin/sh\n" + _written(MEMBERS), "end of the zip file"),
        (_foreign(*MEMBERS.items(), comment=b"hello"), "without a comment"),
        (_foreign(("a", b"1"), ("a", b"2")), "stands twice"),
        (_foreign(("b", b"1"), ("a", b"2")), "order of names"),
        (_foreign(("A", b"1"), ("a", b"2")), "capital letters"),
        (_foreign(("a", bytes(9_999_999)), method=zipfile.ZIP_DEFLATED), "entry in the directory of a differs"),
        (b"", "no bundle"),
        (b"PK\5\6" + bytes(17), "no bundle"),
    ],
)
def test_what_other_zip_files_do_is_refused(content: bytes, reason: str) -> None:
    """Given bytes before it, a comment, a second member of a name, another order, or a bomb, then it is refused."""
    with pytest.raises(ArchiveRefused, match=reason):
        _read(content)


@pytest.mark.parametrize(
    ("offset", "value", "what"),
    [(6, 1, "encryption"), (6, 8, "a data descriptor"), (8, 8, "deflate"), (10, 1, "a time"), (4, 45, "a version")],
)
def test_flags_are_refused_in_both_headers(offset: int, value: int, what: str) -> None:
    """Given a flag, a method or a time that is set alike in both headers of a member, then it is refused."""
    content = bytearray(_written({"a": b"x"}))
    central = content.index(b"PK\1\2")
    struct.pack_into("<H", content, offset, value)
    struct.pack_into("<H", content, central + offset + 2, value)
    with pytest.raises(ArchiveRefused, match="entry in the directory of a differs"):
        _read(bytes(content))


def test_a_link_is_refused() -> None:
    """Given a member that says it is a symbolic link, then it is refused."""
    content = bytearray(_written({"a": b"/etc/passwd"}))
    struct.pack_into("<I", content, content.index(b"PK\1\2") + 38, 0o120777 << 16)
    with pytest.raises(ArchiveRefused, match="entry in the directory of a differs"):
        _read(bytes(content))


def test_bytes_between_the_members_and_the_directory_are_refused() -> None:
    """Given bytes hidden behind the last member, with an end that leads past them, then it is refused."""
    content = _written({"a": b"x"})
    at = content.index(b"PK\1\2")
    moved = bytearray(content[:at] + b"hidden" + content[at:])
    struct.pack_into("<I", moved, len(moved) - 6, at + 6)
    with pytest.raises(ArchiveRefused, match="between the last member and the directory"):
        _read(bytes(moved))


def test_members_that_share_bytes_are_refused() -> None:
    """Given two entries of the directory that lead to one member (how bombs are made), then it is refused."""
    content = _written({"a": b"x" * 100})
    at = content.index(b"PK\1\2")
    central = content[at : at + 47]
    second = central.replace(b"a", b"b")
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 2, 2, 2 * len(central), at, 0)
    with pytest.raises(ArchiveRefused, match="entry in the directory of b differs"):
        _read(content[:at] + central + second + end)


def test_a_changed_content_with_a_mended_checksum_still_has_one_spelling() -> None:
    """Given a content that is changed with its checksums, then the container holds: digests are the manifest's part."""
    assert _read(_written({**MEMBERS, "a.txt": b"other"}))["a.txt"] == b"other"


def test_what_needs_zip64_is_written_and_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given numbers too large for the plain fields, then zip64 fields hold them, and no byte of these is free."""
    monkeypatch.setattr(module, "FORM", Zip64From(size=200, count=3))
    content = _written(MEMBERS)
    assert b"PK\6\6" in content
    assert _read(content) == MEMBERS
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        assert {name: file.read(name) for name in file.namelist()} == MEMBERS
    changed = bytearray(content)
    for at in range(len(changed)):
        changed[at] ^= 1 << at % 8
        with pytest.raises(ArchiveRefused):
            _read(bytes(changed))
        changed[at] ^= 1 << at % 8


def test_zip64_is_not_taken_where_no_number_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given an archive in zip64 form whose numbers are small, then it is refused: that would be a second spelling."""
    monkeypatch.setattr(module, "FORM", Zip64From(size=0, count=0))
    content = _written(MEMBERS)
    monkeypatch.undo()
    with pytest.raises(ArchiveRefused, match="end of the zip file"):
        _read(content)


def test_more_than_65535_members_are_read() -> None:
    """Given more members than the plain end record can count, then all are listed."""
    content = _written({f"m{number:06d}": b"" for number in range(65_600)})
    with open_archive(io.BytesIO(content)) as archive:
        assert len(archive.members) == 65_600


def test_limits_are_kept() -> None:
    """Given a member or a line longer than is asked for, or a last line that was cut, then it is refused."""
    with open_archive(io.BytesIO(_written({"a": b"12345\n123", "b": b"123456\n"}))) as archive:
        with pytest.raises(ArchiveRefused, match="at most 8"):
            archive.read("a", 8)
        with pytest.raises(ArchiveRefused, match="does not end with a newline"):
            list(archive.lines("a", 10))
        with pytest.raises(ArchiveRefused, match="more than 5 bytes"):
            list(archive.lines("b", 5))
        with pytest.raises(ArchiveRefused, match="c is missing"):
            archive.read("c", 8)

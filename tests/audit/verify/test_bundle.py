"""Must-show 8: a bundle with a byte changed anywhere, a file removed or a file added is refused, with the reason."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from hashlib import sha256

import pytest

from audit.verify.archive import open_archive, write_archive
from audit.verify.bundle import OTHER_README, Trusted, verify_bundle
from audit.verify.errors import ArchiveRefused, BundleRefused, VerificationRefused
from audit.verify.note import VerifierKey
from audit.verify.readme import readme_text
from audit.verify.tiles import TILE_WIDTH
from tests.bundles import (
    HOUSE,
    ORIGIN,
    STRANGER,
    SUBJECT,
    WITNESS,
    Draft,
    Receipt,
    Story,
    draft,
    receipt,
    signed,
    signer,
    verified,
)

TRUST = {"log_keys": [HOUSE.verifier]}


def _members(content: bytes) -> dict[str, bytes]:
    with open_archive(io.BytesIO(content)) as archive:
        return {name: archive.read(name, 1 << 20) for name in archive.members}


def _zipped(members: dict[str, bytes]) -> bytes:
    held = io.BytesIO()
    write_archive(held, members.items())
    return held.getvalue()


def _refusal(content: bytes, **trusted: object) -> VerificationRefused:
    with pytest.raises(VerificationRefused) as refused:
        verified(content, **trusted)
    return refused.value


def _long_receipt() -> Receipt:
    """A receipt in a log of more than one full tile, with older checkpoints."""
    told = receipt()
    told.story.fill(600)
    return told


def _whole_log(events: int) -> Draft:
    story = Story()
    story.fill(events)
    return draft(story, range(1, events + 1), {"kind": "period", "complete": {"positions": [1, events]}}, proofs=False)


def test_an_honest_bundle_is_verified() -> None:
    """Given a bundle as it was made, when verified with the log's key, then it says what it holds and who signed."""
    found = verified(_long_receipt().draft(older=(3, 256, 300), witnesses=(WITNESS,)).zipped(), **TRUST)
    assert (found.events, found.proofs, found.parts.opened) == (5, 5, 2)
    assert found.older_checkpoints == [3, 256, 300]
    assert found.signers == (str(HOUSE.verifier),)
    assert [one.witness for one in found.checkpoint.cosigned] == [WITNESS.verifier]


def test_progress_is_told_to_the_end() -> None:
    """Given somebody who watches, then what is done only grows, and ends with all of it."""
    told: list[tuple[int, int]] = []
    content = _whole_log(5_000).zipped()
    verify_bundle(io.BytesIO(content), Trusted(), lambda done, total: told.append((done, total)))
    assert told == sorted(told)
    assert len({total for _, total in told}) == 1
    assert told[-1][0] == told[-1][1] > len(content)


def test_without_a_key_the_answer_says_that_nothing_vouches_for_the_bundle() -> None:
    """Given no key, when verified, then the first thing that is not proven is who made it; with one it is not there."""
    content = receipt().draft().zipped()
    assert "keys were taken from the bundle itself" in verified(content).not_proven[0]
    assert not any("taken from the bundle" in sentence for sentence in verified(content, **TRUST).not_proven)


@pytest.mark.parametrize("keys", [(), (HOUSE.verifier,)], ids=["its own keys", "a given key"])
def test_every_changed_byte_is_refused(keys: tuple[VerifierKey, ...]) -> None:
    """Given a bundle with two living log keys and a witness, when any one byte of the file is changed, then refused."""
    second = signer(ORIGIN, "second")
    content = bytearray(receipt().draft(signers=(HOUSE, second), witnesses=(WITNESS,)).zipped())
    assert verified(bytes(content), log_keys=keys).events == 5
    file = io.BytesIO(content)
    for at in range(len(content)):
        file.seek(at)
        file.write(bytes((content[at] ^ 1 << at % 8,)))
        with pytest.raises(VerificationRefused):
            verify_bundle(file, Trusted(log_keys=keys))
        file.seek(at)
        file.write(content[at : at + 1])


def test_every_changed_byte_of_a_content_is_refused_by_the_digests_too() -> None:
    """Given a content that is changed along with every checksum of the zip file, then the manifest's digest refuses."""
    members = _members(receipt().draft().zipped())
    for name, content in members.items():
        for at in {0, len(content) // 2, len(content) - 1}:
            changed = content[:at] + bytes((content[at] ^ 1,)) + content[at + 1 :]
            refusal = _refusal(_zipped({**members, name: changed}))
            assert name in str(refusal) or name == "manifest.json", (name, at, str(refusal))


def test_every_removed_file_is_named() -> None:
    """Given a bundle that is written anew without one of its files, then it is refused by that file's name."""
    members = _members(_long_receipt().draft(older=(3,), witnesses=(WITNESS,)).zipped())
    for name in members:
        rest = {other: content for other, content in members.items() if other != name}
        refusal = _refusal(_zipped(rest))
        assert isinstance(refusal, ArchiveRefused)
        assert refusal.file == name
        assert "missing" in str(refusal)


@pytest.mark.parametrize("name", ["extra.txt", "log/tile/0/001", "proofs/1.tlog-proof", "certificates/x", "a/b"])
def test_an_added_file_is_named(name: str) -> None:
    """Given a bundle that is written anew with one file more, then it is refused by that file's name."""
    members = _members(receipt().draft().zipped())
    refusal = _refusal(_zipped({**members, name: b"1"}))
    assert refusal.args[0] == f"{name} was added: the manifest does not name it."


def test_a_renamed_file_is_refused() -> None:
    """Given a proof under another event's name, then it is refused: one file is missing and another was added."""
    members = _members(receipt().draft().zipped())
    members["proofs/9.tlog-proof"] = members.pop("proofs/2.tlog-proof")
    assert "proofs/2.tlog-proof is missing" in str(_refusal(_zipped(members)))


def test_a_file_that_no_bundle_has_is_refused_even_if_the_house_signs_for_it() -> None:
    """Given a file of another name that the manifest names, then it is refused: nothing rides along."""
    made = receipt().draft()
    made.files["payload.bin"] = b"1"
    assert "no file that a bundle of this format has" in str(_refusal(made.zipped()))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda content: b"\0" + content, "end of the zip file"),
        (lambda content: content + b"\0", "not end as a zip file"),
        (lambda content: content[:-1], "not end as a zip file"),
        (lambda content: content[:-2] + b"\5\0hello", "not end as a zip file"),
        (lambda content: b"", "no bundle"),
    ],
    ids=["prepended", "appended", "cut", "commented", "empty"],
)
def test_bytes_around_a_bundle_are_refused(change: Callable[[bytes], bytes], reason: str) -> None:
    """Given bytes before or behind a bundle, a comment, or one that was cut, then it is refused."""
    assert reason in str(_refusal(change(receipt().draft().zipped())))


@pytest.mark.parametrize("trusted", [{}, TRUST], ids=["its own keys", "a given key"])
def test_a_manifest_signed_by_a_foreign_key_is_refused(trusted: dict[str, object]) -> None:
    """Given a manifest that a stranger signed in the log's name, then it is refused: no key that counts signed it."""
    made = receipt().draft()
    made.signers = (STRANGER,)
    assert "None of the keys that are trusted here signed" in str(_refusal(made.zipped(), **trusted))


def test_a_stranger_who_makes_everything_is_refused_where_a_key_was_given() -> None:
    """Given a bundle that is a stranger's from end to end, then it agrees with itself, and the real key refuses it."""
    content = receipt().draft(signers=(STRANGER,)).zipped()
    assert verified(content).keys_given is False
    refusal = str(_refusal(content, **TRUST))
    assert f"No trusted key of {ORIGIN} signed the manifest; this did: {STRANGER.verifier}" in refusal
    assert "rotated" in refusal


def test_a_signature_over_another_manifest_is_refused() -> None:
    """Given two bundles of one house with their manifests' signatures exchanged, then both are refused."""
    one, two = receipt().draft().sign(), _long_receipt().draft().sign()
    one.signature, two.signature = two.signature, one.signature
    for made in (one, two):
        assert "manifest.json was changed" in str(_refusal(made.zipped()))


def test_a_line_of_signature_that_nobody_can_check_is_refused() -> None:
    """Given a second line of signature by a key that nobody names, then it is refused: its bytes would be free."""
    made = receipt().draft().sign()
    made.signature = signed(made.signature.rpartition(b"\n\n")[0] + b"\n", HOUSE, STRANGER)
    assert "with a key that nobody names" in str(_refusal(made.zipped(), **TRUST))


def test_a_checkpoint_signed_by_a_foreign_key_is_refused() -> None:
    """Given a checkpoint under the log's name that a stranger signed, then it is refused."""
    made, forged = receipt().draft(), receipt().draft(signers=(STRANGER,), proofs=False)
    made.files["log/checkpoint"] = forged.files["log/checkpoint"]
    refusal = _refusal(made.zipped())
    assert "None of the keys that are trusted here signed" in str(refusal)
    assert isinstance(refusal, BundleRefused)
    assert refusal.file == "log/checkpoint"


def test_a_checkpoint_of_another_log_is_refused() -> None:
    """Given a checkpoint that the same key signed for another origin, then it is refused."""
    made = receipt().draft()
    made.origin = f"{ORIGIN}/2"
    made.signers = (HOUSE, signer(f"{ORIGIN}/2", "house"))
    made.files["keys/log.vkeys"] += f"{made.signers[1].verifier}\n".encode()
    assert f"is one of {ORIGIN}, and that of {ORIGIN}/2 was asked for" in str(_refusal(made.zipped()))


def test_an_older_checkpoint_in_its_place_is_refused() -> None:
    """Given an earlier checkpoint of the same log in place of the one that all is proven for, then it is refused."""
    made = _long_receipt().draft(older=(300,))
    made.files["log/checkpoint"] = made.files["log/checkpoints/300"]
    assert "is of size 300, and the manifest names 607" in str(_refusal(made.zipped()))
    made.size = 300
    assert "log/tile" in str(_refusal(made.sign().zipped()))


@pytest.mark.parametrize("size", [3, 300, 512])
def test_a_checkpoint_of_another_history_is_refused(size: int) -> None:
    """Given an older checkpoint that the log signed for other events, then it is refused: there are two histories."""
    other = Receipt().begin().grant(purpose="offers").send()
    other.story.fill(600)
    made, forked = _long_receipt().draft(older=(size,)), draft(other.story, [1], other.claims, older=(size,))
    name = f"log/checkpoints/{size}"
    made.files[name] = forked.files[name]
    refusal = _refusal(made.zipped())
    assert "there are two histories" in str(refusal)
    assert name in str(refusal)


def test_a_checkpoint_newer_than_the_proofs_is_refused() -> None:
    """Given a checkpoint of a later size beside the others, then it is refused: nothing here proves it."""
    made = receipt().draft()
    made.files["log/checkpoints/607"] = _long_receipt().draft().files["log/checkpoint"]
    assert "newer than the one that everything here is proven for" in str(_refusal(made.zipped()))


def test_a_checkpoint_under_another_size_is_refused() -> None:
    """Given an older checkpoint in a file that names another size, then it is refused."""
    made = _long_receipt().draft(older=(300, 400))
    made.files["log/checkpoints/300"] = made.files["log/checkpoints/400"]
    assert "The checkpoint is of size 400" in str(_refusal(made.zipped()))


def test_an_older_checkpoint_may_be_signed_by_a_key_that_was_laid_down() -> None:
    """Given a log that changed its key, when the reader knows the new one only, then older checkpoints still hold."""
    made, before = _long_receipt().draft(older=(300,)), signer(ORIGIN, "before")
    text = made.files["log/checkpoints/300"].rpartition(b"\n\n")[0] + b"\n"
    made.files["log/checkpoints/300"] = signed(text, before)
    assert "None of the keys that are trusted here signed" in str(_refusal(made.zipped(), **TRUST))
    made.files["keys/log.vkeys"] += f"{before.verifier}\n".encode()
    assert verified(made.sign().zipped(), **TRUST).older_checkpoints == [300]
    forked = draft(Receipt().begin().grant(purpose="offers").send().story, [1], {"kind": "request", "complete": {}})
    made.files["log/checkpoints/6"] = signed(forked.files["log/checkpoint"].rpartition(b"\n\n")[0] + b"\n", before)
    assert "there are two histories" in str(_refusal(made.sign().zipped(), **TRUST))


def test_the_newest_checkpoint_is_signed_by_a_key_that_counts() -> None:
    """Given a checkpoint signed by a key that only the bundle names, when another was given, then it is refused."""
    made, before = receipt().draft(proofs=False), signer(ORIGIN, "before")
    made.files["keys/log.vkeys"] += f"{before.verifier}\n".encode()
    text = made.files["log/checkpoint"].rpartition(b"\n\n")[0] + b"\n"
    made.files["log/checkpoint"] = signed(text, before)
    assert "None of the keys that are trusted here signed" in str(_refusal(made.zipped(), **TRUST))


def test_a_readme_of_another_hand_is_told() -> None:
    """Given a README with other programs to run, then the answer warns of them; of the one it knows it does not."""
    made = receipt().draft()
    assert OTHER_README in verified(made.zipped(), **TRUST).not_proven
    made.files["README.md"] = readme_text().encode()
    assert OTHER_README not in verified(made.sign().zipped(), **TRUST).not_proven


@pytest.mark.parametrize("events", [0, 1, 255, 256, 257, 512, 65_535, 65_536, 65_537])
def test_logs_that_just_fill_their_tiles_are_verified(events: int) -> None:
    """Given a log of no event, of one, or of so many that tiles just begin or are full, then its ends are verified."""
    story = Story()
    story.fill(events)
    first, last = max(1, events - 1), events
    made = draft(story, range(first, last + 1), {"kind": "period", "complete": {"positions": [first, last]}})
    assert verified(made.zipped(), **TRUST).events == last - first + 1


def test_two_events_exchanged_are_refused() -> None:
    """Given two events at each other's position, then the first of them is named."""
    made = receipt().draft(proofs=False)
    lines = made.files["entries.tsv"].splitlines()
    entries = [line.split(b"\t") for line in lines]
    entries[1][1], entries[2][1] = entries[2][1], entries[1][1]
    made.files["entries.tsv"] = b"".join(b"\t".join(one) + b"\n" for one in entries)
    refusal = _refusal(made.zipped())
    assert isinstance(refusal, BundleRefused)
    assert refusal.position == 3
    assert "is not the one that the log's tree has there" in str(refusal)


@pytest.mark.parametrize(
    ("change", "position", "reason"),
    [
        (lambda lines: [lines[1], lines[0], *lines[2:]], 2, "stands twice, or behind a later one"),
        (lambda lines: [lines[0], lines[0], *lines[1:]], 2, "stands twice, or behind a later one"),
        (lambda lines: [b"0" + lines[0], *lines[1:]], None, "does not begin with the position"),
        (lambda lines: [lines[0].replace(b'"actor"', b'"actor" '), *lines[1:]], 2, "not the one spelling"),
        (lambda lines: [lines[0].replace(b'{"actor"', b'{"actor":"x","actor"'), *lines[1:]], 2, "not the one spelling"),
        (lambda lines: [lines[0].replace(b"contact.added", b"contact.adder"), *lines[1:]], 2, "is not the one"),
        (lambda lines: [lines[0].replace(b'"version":1', b'"version":true'), *lines[1:]], 2, "no entry of the version"),
        (lambda lines: [lines[0].replace(b'"v":1', b'"v":true'), *lines[1:]], 2, "no entry of the version"),
        (lambda lines: [re.sub(rb'"tenant":"\w+",', b"", lines[0]), *lines[1:]], 2, "of another tenant"),
        (lambda lines: [re.sub(rb'at":"2026-11', b'at":"2026-13', lines[0]), *lines[1:]], 2, "no entry of the version"),
        (lambda lines: [re.sub(rb"T08:02:00", b"T24:02:00", lines[0]), *lines[1:]], 2, "no entry of the version"),
        (lambda lines: [re.sub(rb'"tenant":"0190', b'"tenant":"0191', lines[0]), *lines[1:]], 2, "of another tenant"),
        (lambda lines: [*lines[:-1], lines[-1].replace(b"7\t", b"8\t")], 8, "outside of its tree"),
        (lambda lines: [*lines[:-1], b"\xff\n"], None, "does not begin with the position"),
    ],
)
def test_an_event_that_is_changed_is_named(
    change: Callable[[list[bytes]], list[bytes]], position: int | None, reason: str
) -> None:
    """Given events out of order, repeated, respelt or changed, signed for by the house, then the first is named."""
    made = receipt().draft(proofs=False)
    del made.files["sealed.tsv"], made.files["disclosed.ndjson"]
    made.files["entries.tsv"] = b"".join(change(made.files["entries.tsv"].splitlines(keepends=True)))
    refusal = _refusal(made.zipped())
    assert reason in str(refusal)
    assert isinstance(refusal, BundleRefused)
    assert (refusal.file, refusal.position) == ("entries.tsv", position)


def test_an_event_recorded_before_the_one_before_it_is_refused() -> None:
    """Given a log in which time runs backwards, then the event at which it does is named."""
    story = Story()
    story.fill(2)
    story.add(SUBJECT, "contact.added.v1", recorded_at="2026-11-21T08:00:59.000000Z")
    made = draft(story, [1, 2, 3], {"kind": "period", "complete": {"positions": [1, 3]}})
    assert "Event 3: It was recorded before event 2" in str(_refusal(made.zipped()))


def test_a_tile_that_is_cut_short_is_refused() -> None:
    """Given a tile with a hash less, signed for by the house, then it is refused by its name."""
    made = _long_receipt().draft(older=(300,))
    for name in [name for name in made.files if name.startswith("log/tile/")]:
        held = made.files[name]
        made.files[name] = held[:-32]
        refusal = _refusal(made.sign().zipped())
        assert re.search(rf"{name.removeprefix('log/')} has {len(held) - 32} bytes", str(refusal)), str(refusal)
        made.files[name] = held


def test_a_tile_that_is_changed_is_refused() -> None:
    """Given a tile with another hash in any place, signed for by the house, then it is refused."""
    made = _long_receipt().draft(older=(300,))
    for name in [name for name in made.files if name.startswith("log/tile/")]:
        held = made.files[name]
        for at in {0, len(held) // 64 * 32, len(held) - 32}:
            made.files[name] = held[:at] + sha256(b"forged").digest() + held[at + 32 :]
            assert re.search(r"tile/|entry at index|give the root", str(_refusal(made.sign().zipped())))
        made.files[name] = held


def test_a_tile_that_proves_nothing_is_refused() -> None:
    """Given a tile of the same log that no event of the bundle needs, then it is refused: it would go unchecked."""
    whole, made = _whole_log(600), receipt().draft()
    assert "log/tile/0/001" in whole.files
    made = _long_receipt().draft()
    made.files["log/tile/0/001"] = bytes(32 * TILE_WIDTH)
    assert "log/tile/0/001 proves no event" in str(_refusal(made.zipped()))


@pytest.mark.parametrize("events", [1, 2, 255, 256, 257, 512, 600])
def test_whole_logs_of_many_sizes_are_verified(events: int) -> None:
    """Given a bundle of every event of a log, then it is verified; with an event less it is not."""
    made = _whole_log(events)
    assert verified(made.zipped(), **TRUST).events == events
    made.files["entries.tsv"] = b"".join(made.files["entries.tsv"].splitlines(keepends=True)[:-1])
    refusal = str(_refusal(made.sign().zipped()))
    assert f"Events {events} to {events} are claimed, and are not here" in refusal


def test_a_proof_of_another_event_is_refused() -> None:
    """Given the proofs of two events exchanged, signed for by the house, then the first is named."""
    made = receipt().draft()
    two, three = "proofs/2.tlog-proof", "proofs/3.tlog-proof"
    made.files[two], made.files[three] = made.files[three], made.files[two]
    assert "Event 2: The proof is that of another event" in str(_refusal(made.zipped()))


def test_proofs_of_some_events_only_are_refused() -> None:
    """Given a bundle with proofs of all events but one, or of one more, then it is refused."""
    made = receipt().draft()
    taken = made.files.pop("proofs/3.tlog-proof")
    assert "proofs/3.tlog-proof is missing" in str(_refusal(made.zipped()))
    made.files |= {"proofs/3.tlog-proof": taken, "proofs/1.tlog-proof": taken}
    assert "proofs of events that are not in the bundle" in str(_refusal(made.sign().zipped()))


def test_a_proof_for_another_checkpoint_is_refused() -> None:
    """Given a proof that holds for an earlier size of the log, then it is refused: all is proven for one checkpoint."""
    told = receipt()
    earlier = told.draft()
    told.story.fill(600)
    made = told.draft()
    made.files["proofs/2.tlog-proof"] = earlier.files["proofs/2.tlog-proof"]
    assert "The proof is for another checkpoint than the bundle's" in str(_refusal(made.zipped()))


def test_witnesses_that_are_asked_for_must_have_cosigned() -> None:
    """Given a witness of the reader's own, then a bundle without its cosignature is refused, and one with it is not."""
    other = signer("witness.example/w2", "other", WITNESS.verifier.kind)
    content = receipt().draft(witnesses=(WITNESS,)).zipped()
    assert len(verified(content, **TRUST, witnesses=[WITNESS.verifier]).checkpoint.cosigned) == 1
    assert "0 of the witnesses trusted here" in str(_refusal(content, **TRUST, witnesses=[other.verifier]))
    both = {"witnesses": [WITNESS.verifier, other.verifier]}
    assert verified(content, **TRUST, **both).events == 5
    assert "2 are needed" in str(_refusal(content, **TRUST, **both, witnesses_needed=2))


def test_a_false_cosignature_is_refused() -> None:
    """Given a cosignature over another checkpoint in the name of a known witness, then it is refused."""
    made, other = receipt().draft(witnesses=(WITNESS,), proofs=False), _long_receipt().draft(witnesses=(WITNESS,))
    false = other.files["log/checkpoint"].splitlines(keepends=True)[-1]
    made.files["log/checkpoint"] = b"".join([*made.files["log/checkpoint"].splitlines(keepends=True)[:-1], false])
    assert "The signature of witness.example/w1 does not fit" in str(_refusal(made.zipped()))


@pytest.mark.parametrize(
    "content",
    [b"{}", b"[]", b"null", b'{"format":"lethe.bundle.v1"}', b'{"format":"lethe.bundle.v9"}', b"{" * 100_000, b"\xff"],
)
def test_a_manifest_that_is_none_is_refused(content: bytes) -> None:
    """Given something else in place of the manifest, then it is refused before anything is believed."""
    made = receipt().draft().sign()
    made.manifest = content
    refusal = _refusal(made.zipped())
    assert isinstance(refusal, BundleRefused)
    assert refusal.file == "manifest.json"

"""Attacks on evidence: a house that lies with its own keys, a stranger with a changed file, and those who are called.

The small bundles are signed by the log's own key, so nothing but what the events say can give a lie away.
"""

from __future__ import annotations

import json
import re
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import UUID
from zipfile import ZipFile

import pytest

from api.bootstrap import Instance
from audit.log import calls
from audit.log.attesting import ask_witnesses
from audit.log.calls import Caller
from audit.log.errors import NoAnswer
from audit.log.timestamps import Stamping, TimestampAuthority
from audit.log.witness_policy import WitnessPolicy
from audit.verify.bundle import ROOTS_FROM_BUNDLE, Trusted, verify_bundle
from audit.verify.canonical import canonical
from audit.verify.errors import (
    ArchiveRefused,
    BundleRefused,
    ClaimRefused,
    TimestampRefused,
    VerificationRefused,
)
from audit.verify.manifest import MANIFEST_BYTES_BESIDE_MAX, bundle_text
from audit.verify.merkle import leaf_hash
from audit.verify.readme import readme_text
from audit.verify.report import sentences
from audit.verify.send import IN_TIME_NOT_PROVEN
from audit.verify.timestamp import open_timestamp, timestamp_request
from ledger.application import Ledger
from ledger.entry import entry_time
from ledger.sealing import seal
from retention.erasure.erasing import finish_erasures
from tests.acts import ask, emails, register, say, willing
from tests.api.cli_support import CommandLine
from tests.audit.publishing import keys_of, publish
from tests.bundles import (
    CAMPAIGN,
    EVIDENCE,
    HOUSE,
    OTHER,
    SIGNER,
    SUBJECT,
    WITNESS,
    Draft,
    Receipt,
    Story,
    asked_for,
    draft,
    exported_certificate,
    moment,
    receipt,
    signed,
    signer,
    verified,
)
from tests.support import SettableClock
from tests.timestamp_authority import TimestampAuthority as Openssl
from tests.verifiers.outside import go_environment
from tests.witness import Witness, running_witness

Plain = dict[str, Any]

GRANTED = "consent.granted.v1"
NO = {"purpose": "newsletter", "channel": "email", "evidenced": True}
TRUST = {"log_keys": [HOUSE.verifier]}


def _refusal(made: Draft, **trusted: Any) -> BundleRefused:
    with pytest.raises(VerificationRefused) as refused:
        verified(made.zipped(), **{**TRUST, **trusted})
    assert isinstance(refused.value, BundleRefused), refused.value
    return refused.value


# The house: a send after a no -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("no", ["consent.withdrawn.v1", "consent.refused.v1"])
@pytest.mark.parametrize(
    "lie",
    [{"evidenced": False}, {"imported": True}, {"method": "import"}, {"minute": 1}, {"minute": 3}, {"minute": 500}],
    ids=["no evidence", "imported", "by import", "earlier", "the same minute", "dated ahead"],
)
def test_a_grant_that_lifts_nothing_is_not_believed_to(no: str, lie: Plain) -> None:
    """Given a no, and a grant that does not lift it and says that it has effect, then the send after it is refused."""
    told = Receipt().begin()
    told.says(no, **NO)
    minute = lie.get("minute", len(told.story.events) + 1)
    plain = {**EVIDENCE, **{name: value for name, value in lie.items() if name != "minute"}}
    position = told.story.add(SUBJECT, GRANTED, plain, occurred_at=entry_time(moment(minute)))
    told.positions.append(position)
    told.last += 1
    told.claim["evidence"] = position
    refusal = _refusal(told.send().draft())
    assert "is a no that covers 'newsletter'" in str(refusal)
    assert refusal.position == position - 1


def test_a_no_that_was_recorded_late_does_not_make_the_earlier_one_older() -> None:
    """Given a withdrawal of minute 50, one of minute 4 recorded behind it, and a grant of minute 30, then refused."""
    told = Receipt().begin()
    for topic, plain, minute in (
        ("consent.withdrawn.v1", NO, 50),
        ("consent.withdrawn.v1", NO, 4),
        (GRANTED, EVIDENCE, 30),
    ):
        times: Plain = {"occurred_at": entry_time(moment(minute)), "recorded_at": entry_time(moment(60))}
        told.claim["evidence"] = told.story.add(SUBJECT, topic, plain, **times)
        told.positions.append(told.claim["evidence"])
        told.last += 1
    told.story.fill(60)
    assert "is a no that covers" in str(_refusal(told.send().draft()))


def _told_otherwise(**changes: Any) -> Receipt:
    """A receipt whose authorisation differs in its plain fields, or in its header."""
    told = Receipt().begin().grant()
    add = told.story.add

    def changed(stream: bytes, topic: str, plain: Plain, *rest: Any, **header: Any) -> int:
        if topic != "send.authorised.v1":
            return add(stream, topic, plain, *rest, **header)
        given = plain | {name: value for name, value in changes.items() if name == "expires_at"}
        moved = {name: value for name, value in changes.items() if name != "expires_at"}
        return add(stream, topic, {n: v for n, v in given.items() if v is not None}, *rest, **{**header, **moved})

    told.story.add = changed  # type: ignore[method-assign, assignment]
    return told.send()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"occurred_at": entry_time(moment(600))}, "later than it was recorded"),
        ({"expires_at": None}, "until when it holds"),
        ({"expires_at": "never"}, "until when it holds"),
        ({"expires_at": entry_time(moment(1))}, "had expired before"),
    ],
)
def test_the_clock_of_an_authorisation_cannot_be_played_with(changes: Plain, reason: str) -> None:
    """Given an authorisation dated ahead, or one that never ends, then its receipt is refused."""
    assert reason in str(_refusal(_told_otherwise(**changes).draft()))


def test_a_second_closing_does_not_hide_the_first() -> None:
    """Given a campaign that was closed before the send and once more after it, then the first closing counts."""
    told = Receipt().begin().grant()
    told.positions.append(told.story.add(CAMPAIGN, "campaign.closed.v1"))
    told.send()
    told.positions.append(told.story.add(CAMPAIGN, "campaign.closed.v1"))
    assert "closed before the send" in str(_refusal(told.draft()))


def test_a_campaign_cannot_be_registered_again_for_another_purpose() -> None:
    """Given a campaign registered twice, when the later registration is claimed, then the receipt is refused."""
    told = Receipt().begin()
    again = {"purpose": "offers", "channel": "email", "kind": "one-off"}
    told.claim["campaign"] = told.story.add(CAMPAIGN, "campaign.registered.v1", again)
    told.positions.append(told.claim["campaign"])
    told.grant(purpose="offers")
    assert "by the first event of its stream" in str(_refusal(told.send().draft()))


@pytest.mark.parametrize(
    ("minute", "finding"), [(2_001, None), (2_001, "dispatched_after_expiry"), (20, "dispatched_after_recall")]
)
def test_a_message_that_left_too_late_is_shouted(minute: int, finding: str | None) -> None:
    """Given a dispatch after the authorisation was over or recalled, then what is proven says so with its event."""
    told = Receipt().begin().grant().send()
    message = bytes.fromhex(json.loads(told.story.events[told.claim["authorised"] - 1].entry)["stream"])
    plain = {"campaign": CAMPAIGN.hex(), "provider_event": "x"} | ({"finding": finding} if finding else {})
    when = entry_time(moment(minute))
    left = told.story.add(message, "message.dispatched.v1", plain, occurred_at=when, recorded_at=when)
    told.positions.append(left)
    (attention,) = [line for line in verified(told.draft().zipped()).proven if line.startswith("ATTENTION")]
    assert f"event {left} says that it left at {when}" in attention
    assert finding is None or finding in attention


def test_what_a_receipt_does_not_show_of_the_time_between_is_said() -> None:
    """Given a receipt whose message left in time, then nothing is shouted, and what is not shown of that is said."""
    found = verified(receipt().draft().zipped())
    assert not any("ATTENTION" in sentence for sentence in found.proven)
    assert IN_TIME_NOT_PROVEN in found.not_proven


# The house: another thing than was asked for --------------------------------------------------------------------------


def _two_people() -> Story:
    story = Story()
    story.add(SUBJECT, "contact.added.v1", command="11" * 16)
    story.add(OTHER, "contact.added.v1", command="22" * 16)
    return story


STREAM, OTHERS = SUBJECT.hex(), OTHER.hex()


@pytest.mark.parametrize(
    ("asked", "claims", "positions", "reason"),
    [
        ({"subject": STREAM}, ("person", {"streams": {OTHERS: 1}}), [2], "not among the streams claimed whole"),
        ({"subject": STREAM}, ("person", {"streams": {}}), [1], "not among the streams claimed whole"),
        ({"subject": STREAM}, ("person", {"positions": [1, 1]}), [1], "no stretch of the log"),
        ({}, ("person", {"streams": {STREAM: 1}}), [1], "does not say what was asked for"),
        ({"subject": "Ada"}, ("person", {"streams": {STREAM: 1}}), [1], "does not say what was asked for"),
        ({"campaign": STREAM}, ("campaign", {"streams": {STREAM: 1}}), [1], "have to be claimed for a campaign"),
        (
            {"campaign": OTHERS},
            ("campaign", {"streams": {STREAM: 1}, "message_streams": True}),
            [1],
            "not among the streams claimed whole",
        ),
        ({"first": 1, "last": 2}, ("period", {"positions": [2, 2]}), [2], "Other positions are claimed"),
        ({"first": 1, "last": 2}, ("period", {"streams": {}}), [2], "Other positions are claimed"),
        ({"last": 2}, ("period", {"positions": [1, 2]}), [1, 2], "as a bundle of a period does"),
        ({"first": 1, "last": 2, "from": 7}, ("period", {"positions": [1, 2]}), [1, 2], "a bundle of a period does"),
        ({"command": "11" * 16}, ("request", {"streams": {}}), [1, 2], "Event 2: Another command wrote it"),
        ({"subject": STREAM}, ("request", {"streams": {}}), [1, 2], "Event 2: It is of another stream"),
        ({"command": "11" * 16, "subject": STREAM}, ("request", {"streams": {}}), [1], "does not say what was asked"),
    ],
)
def test_a_bundle_of_another_thing_than_was_asked_for_is_refused(
    asked: Plain, claims: tuple[str, Plain], positions: list[int], reason: str
) -> None:
    """Given a manifest that names one person, campaign, period or command, and claims of another, then refused."""
    made = draft(_two_people(), positions, {"kind": claims[0], "complete": claims[1]})
    made.asked = asked
    refusal = _refusal(made)
    assert reason in str(refusal)
    assert isinstance(refusal, ClaimRefused)


@pytest.mark.parametrize("asked", [{"message": OTHERS, "campaign": CAMPAIGN.hex()}, {"message": OTHERS}])
def test_a_receipt_of_another_message_than_was_asked_for_is_refused(asked: Plain) -> None:
    """Given a receipt that was asked for another message, then it is refused."""
    made = receipt().draft()
    made.asked = asked
    assert "asked for" in str(_refusal(made))


def test_what_was_asked_for_is_told() -> None:
    """Given any bundle, then the answer says what was asked for, so that a reader sees whose bundle it is."""
    made = draft(_two_people(), [1], {"kind": "person", "complete": {"streams": {STREAM: 1}}})
    found = verified(made.zipped(), **TRUST)
    assert f"Asked for: subject {STREAM}." in list(sentences(found))
    assert any("nothing in the log says whose they are" in sentence for sentence in found.not_proven)


@pytest.mark.parametrize(
    "lie",
    [
        {"made_at": "yesterday, by a notary"},
        {"size": "2"},
        {"size": True},
        {"asked": [["subject", STREAM]]},
        {"tenant": OTHERS},
    ],
)
def test_a_manifest_has_one_spelling(lie: Plain) -> None:
    """Given a manifest whose numbers are texts, whose time is a story, or with another's log, then it is refused."""
    made = draft(_two_people(), [1], {"kind": "person", "complete": {"streams": {STREAM: 1}}}).sign()
    resigned(made, **lie)
    assert "manifest" in str(_refusal(made))


def resigned(made: Draft, **changes: Any) -> None:
    """Sign another manifest for the same files."""
    made.manifest = canonical({**json.loads(made.manifest), **changes})
    made.signature = signed(bundle_text(made.manifest), HOUSE)


# The house: others who vouch ------------------------------------------------------------------------------------------


def test_witnesses_that_the_house_names_do_not_count_as_needed() -> None:
    """Given a bundle cosigned by a witness of the house's own choice, when one is needed and none trusted, refused."""
    made = receipt().draft(witnesses=[signer("house.example/w", "house's own", WITNESS.verifier.kind)])
    assert "Give their keys with --witness" in str(_refusal(made, witnesses_needed=1))
    assert verified(made.zipped(), **TRUST).witnesses_given is False


def test_an_authority_that_the_house_names_is_said_to_be_its_own(tmp_path: Path) -> None:
    """Given timestamps whose roots are the bundle's, then the answer says so; with roots of the reader it does not."""
    authority, made = Openssl(tmp_path), receipt().draft()
    text = made.files["log/checkpoint"].rpartition(b"\n\n")[0] + b"\n"
    made.files["log/timestamps/7.tsr"] = authority.answer(timestamp_request(text).content)
    made.files["keys/timestamp-roots.pem"] = authority.roots_pem
    found = verified(made.zipped(), **TRUST)
    assert ROOTS_FROM_BUNDLE in found.not_proven
    assert ROOTS_FROM_BUNDLE in list(sentences(found))
    given = verified(made.zipped(), **TRUST, timestamp_roots=authority.roots_pem)
    assert ROOTS_FROM_BUNDLE not in [*given.not_proven, *sentences(given)]


@pytest.mark.parametrize("accuracy", ["millisecs:500", "microsecs:20"])
def test_an_authority_may_be_exact_in_parts_of_a_second_only(tmp_path: Path, accuracy: str) -> None:
    """Given an authority that gives its accuracy without seconds, then the token is read."""
    authority = Openssl(tmp_path, accuracy=accuracy)
    token = authority.answer(timestamp_request(b"text\n").content)
    stamped = open_timestamp(token, b"text\n", authority.roots_pem)
    assert stamped.accuracy is not None
    assert stamped.accuracy < timedelta(seconds=1)


def test_no_byte_of_a_token_makes_the_verifier_stumble(tmp_path: Path) -> None:
    """Given a token with any one byte changed, then it is refused or says the same, and nothing else happens."""
    authority = Openssl(tmp_path)
    token, roots = authority.answer(timestamp_request(b"text\n").content), authority.roots_pem
    said = open_timestamp(token, b"text\n", roots)
    for at in range(len(token)):
        for value in (token[at] ^ 1, token[at] ^ 0x80, 0, 0xFF):
            changed = token[:at] + bytes((value,)) + token[at + 1 :]
            with suppress(TimestampRefused):
                assert open_timestamp(changed, b"text\n", roots).at == said.at


# The house: certificates ----------------------------------------------------------------------------------------------


def _certified(keys: list[Plain], *, published_first: bool = True, in_bundle: bool = True) -> Draft:
    """A certificate with a list of keys, of which one may have been published."""
    day, commitment = "2026-11-20", bytes(31) + b"\1"
    committed = {"day": day, "count": 1, "root": leaf_hash(commitment).hex()}
    place = 1 if published_first else 2
    named = {day: {"count": 1, "root": committed["root"], "position": place}}
    held = {"published": named if in_bundle else {}, "keys": keys}
    document = {
        "id": str(UUID(bytes=OTHER)),
        "stage": 1,
        "signer": SIGNER,
        "about": {"kind": "plan"},
        "unreachable_from": "2026-11-21",
        "keys": {"list": {"digest": sha256(canonical(held)).hexdigest(), "keys": len(keys)}},
    }
    issued = {"stage": 1, "digest": sha256(canonical(document)).hexdigest()}
    story = Story()
    for topic in ("keys.committed.v1", "certificate.issued.v1")[:: 1 if published_first else -1]:
        story.add(*((SUBJECT, topic, committed) if topic.startswith("keys") else (OTHER, topic, issued)))
    made = draft(story, [1, 2], {"kind": "destruction", "complete": {"streams": {OTHERS: 1}}})
    made.files[f"certificates/{OTHERS}.json"] = canonical(exported_certificate(document, held))
    return made


PUBLISHED = {"commitment": (bytes(31) + b"\1").hex(), "index": 0, "made_on": "2026-11-20", "path": []}
NEVER: Plain = {"commitment": "22" * 32, "index": None, "made_on": "2026-11-20", "path": []}


def test_keys_that_were_never_published_are_not_counted_as_published() -> None:
    """Given a list of which one key was published and one was not, then one is proven, and the rest is said."""
    found = verified(_certified([PUBLISHED, NEVER]).zipped(), **TRUST)
    assert "Of its 2 keys, 1 were published in the log before it was issued." in found.proven
    assert any("some never were" in sentence for sentence in found.not_proven)
    none = verified(_certified([NEVER, NEVER], in_bundle=False).zipped(), **TRUST)
    assert not any("were published" in sentence for sentence in none.proven)


def test_keys_that_were_published_after_their_certificate_are_refused() -> None:
    """Given a day's root that stands in the log behind the certificate which rests on it, then it is refused."""
    assert "published after the certificate" in str(_refusal(_certified([PUBLISHED], published_first=False)))


# The house: opened parts ----------------------------------------------------------------------------------------------


def test_a_field_that_was_sealed_twice_is_not_shown_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a part sealed as JSON in which one field stands twice, then no reading of it is accepted."""
    twice, story = b'{"email":"ada@a.example","email":"b@b.example"}', Story()
    with monkeypatch.context() as patched:
        patched.setattr("tests.bundles.seal", lambda scope, _, *place: seal(scope, twice, *place))
        story.add(SUBJECT, "contact.added.v1", {}, {"identity": {"email": "b@b.example"}})
    made = draft(story, [1], {"kind": "person", "complete": {"streams": {STREAM: 1}}})
    assert "other values than its sealed envelope" in str(_refusal(made))


# A stranger: the file -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [2**64 - 1, 2**63, 2**40])
def test_numbers_that_no_file_has_are_refused(number: int) -> None:
    """Given a zip64 record with numbers whose sum fits no field, then it is refused and nothing stumbles."""
    record = struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, 0x032D, 45, 0, 0, 1, 1, number, number)
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, 0, 1)
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    with pytest.raises(ArchiveRefused):
        verify_bundle(BytesIO(record + locator + end), Trusted())


def test_a_large_manifest_of_few_files_is_not_parsed() -> None:
    """Given a manifest of many bytes in a bundle of few files, then it is refused for its size, before it is read."""
    made = receipt().draft().sign()
    made.manifest = b"[" + b"{}," * (2 * MANIFEST_BYTES_BESIDE_MAX // 3) + b"{}]"
    assert "are read" in str(_refusal(made))


HOSTILE = [
    b"[" * 100_000,
    b'{"a":1,"a":1}',
    b'{"a":1e400}',
    b'{"a":NaN}',
    b'{"a":"\\ud800"}',
    b'{"a":"\xff"}',
    b'{"a":' + b"9" * 5_000 + b"}",
    b'{"a":1}\r',
    b'{"a":"\x00"}',
    b"\xef\xbb\xbf{}",
    b"null",
    b"",
]


@pytest.mark.parametrize("name", ["claims.json", "entries.tsv", "disclosed.ndjson", "sealed.tsv", "keys/log.vkeys"])
@pytest.mark.parametrize("content", HOSTILE)
def test_no_text_makes_the_verifier_stumble(name: str, content: bytes) -> None:
    """Given a file with text that parsers trip over, then it is refused as any other lie is."""
    made = receipt().draft()
    made.asked = asked_for(receipt().claims)
    prefix = {"entries.tsv": b"2\t", "sealed.tsv": b"2\tidentity\t"}.get(name, b"")
    made.files[name] = prefix + content + (b"" if name == "claims.json" else b"\n")
    assert str(_refusal(made))


@pytest.mark.parametrize("content", HOSTILE)
def test_no_manifest_makes_the_verifier_stumble(content: bytes) -> None:
    """Given the same in place of the manifest, then it is refused."""
    made = receipt().draft().sign()
    made.manifest = content or b" "
    assert str(_refusal(made))


# Those who are called -------------------------------------------------------------------------------------------------


@contextmanager
def _dripping(first: bytes, rest: bytes) -> Iterator[str]:
    """Somebody who answers a few bytes at a time, without end."""
    server = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()

    def answer() -> None:
        connection, _ = server.accept()
        with connection:
            connection.recv(65_536)
            try:
                connection.sendall(first)
                while not over.wait(0.02):
                    connection.sendall(rest)
            except OSError:
                return

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
    finally:
        over.set()
        server.close()
        thread.join()


@pytest.mark.parametrize(
    ("first", "rest"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", b"x"),
        (b"HTTP/1.1 200 OK\r\nX: ", b"x"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b"x"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"A: b\r\n"),
        (b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"),
    ],
    ids=["unmeasured", "headers", "body", "trailers", "continue"],
)
def test_whoever_answers_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch, first: bytes, rest: bytes) -> None:
    """Given headers, a body or trailers that drip for ever, then there is no answer, and the next one is asked."""
    monkeypatch.setattr(calls, "ANSWER_SECONDS_MAX", 0.3)
    with _dripping(first, rest) as url, pytest.raises(NoAnswer):
        Caller()(url, "text/plain", b"old 0\n", 1_000_000)


# A stranger with a real bundle: witnesses, timestamps, and the README word by word ------------------------------------


PEOPLE = emails(4)
ADA = PEOPLE[0]


@pytest.fixture
def lethe(instance: Instance, ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """The command line of an account with four willing persons."""
    willing(ledger, PEOPLE)
    return CommandLine(instance, ledger, tmp_path, monkeypatch)


@pytest.fixture
def witness(clock: SettableClock) -> Iterator[running_witness]:
    """A witness that listens, on the ledger's clock."""
    with running_witness(Witness("witness.example/1", b"1" * 32, now=lambda: clock().timestamp())) as up:
        yield up


def test_a_real_bundle_with_witnesses_and_timestamps_follows_its_readme(
    lethe: CommandLine, witness: running_witness, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a cosigned and stamped log, then its bundles verify in every way that the README shows."""
    instance, ledger = lethe.instance, lethe.ledger
    authority = Openssl(lethe.folder / "authority")
    token = ask(ledger, register(ledger), PEOPLE).allowed[ADA]
    say(ledger, [ADA], "withdraw")
    (erasure,) = ledger.erasures.intend([PEOPLE[3]], reason="other", actor="cli")
    finish_erasures(ledger)
    clock.set(clock())
    witness.witness.trust(publish(instance, ledger).origin, map(str, keys_of(instance, ledger)))
    policy = WitnessPolicy.parse([witness.line], 1)
    with authority.serving() as url:
        (lethe.folder / "roots.pem").write_bytes(authority.roots_pem)
        monkeypatch.setenv("LETHE_WITNESSES", json.dumps([witness.line]))
        monkeypatch.setenv("LETHE_WITNESSES_NEEDED", "1")
        monkeypatch.setenv("LETHE_TIMESTAMP_URL", url)
        monkeypatch.setenv("LETHE_TIMESTAMP_ROOTS", str(lethe.folder / "roots.pem"))
        assert ask_witnesses(ledger, policy, Caller()) == 1
        assert Stamping(TimestampAuthority(url, authority.roots_pem), Caller())(ledger)
    (key,) = map(str, keys_of(instance, ledger))
    trust = ("--key", key, "--witness", witness.witness.key, "--witnesses-needed", "1")
    for arguments in (("receipt", token, "--open"), ("bundle", "destruction", erasure.certificate_id)):
        out = lethe.folder / f"{arguments[0]}.zip"
        made = lethe.json(*arguments, "--out", out)
        found = lethe.json("verify", out, *trust, "--timestamp-roots", lethe.folder / "roots.pem")
        assert (found["keys"], found["witness_keys"], found["timestamp_roots"]) == ("given", "given", "given")
        assert [one["witness"] for one in found["cosigned"]] == [str(witness.witness.key)]
        assert [stamp["size"] for stamp in found["timestamps"]] == [found["size"]]
        assert found["events"] == made["events"]
        lethe("verify", out, "--key", key, "--witness", "other.example/w+x", code=2)
        lethe("verify", out, "--key", key, "--witnesses-needed", "1", code=6)
        _follow_the_readme(out, lethe.folder / f"unpacked-{arguments[0]}", key, found["events"], found["size"])


def _follow_the_readme(bundle: Path, folder: Path, key: str, events: int, size: int) -> None:
    """Unpack a bundle as anybody would, and run the programs that its own README shows."""
    with ZipFile(bundle) as archive:
        archive.extractall(folder)
    readme = (folder / "README.md").read_text()
    assert readme == readme_text()
    for language, program in (("python", "check.py"), ("go", "check.go")):
        found = re.search(rf"```{language}\n(.*?)```", readme, re.DOTALL)
        assert found is not None
        (folder / program).write_text(found[1])
    environment = go_environment()
    for command in ([sys.executable, "-I", "check.py", key], ["go", "run", "check.go", key]):
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=100
        )
        assert done.stdout == f"{events} events stand in the log of size {size}\n", done.stderr


@pytest.mark.parametrize("name", ["keys/log.vkeys", "keys/witnesses.vkeys"])
def test_so_many_keys_that_every_note_takes_long_are_refused(name: str) -> None:
    """Given hundreds of keys that each note would be held against, then they are refused before the first note."""
    made = receipt().draft(witnesses=[WITNESS])
    made.files[name] += b"".join(f"{signer('k', str(n), WITNESS.verifier.kind).verifier}\n".encode() for n in range(64))
    assert "More than 64 keys" in str(_refusal(made))

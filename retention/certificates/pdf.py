"""A certificate of destruction on paper: the same words as the signed document, laid out for whoever has to file it.

The JSON is what is signed; it is attached inside the PDF, whole, with its list of keys. The same certificate gives
the same bytes, whenever and wherever it is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time
from typing import Any, Final

import orjson

from ledger.certificate_format import digest_of
from projections.paper.days import long_day, short_day
from projections.paper.page import Paper
from retention.certificates.exports import is_of_many

TITLE: Final = "Certificate of destruction"
FOOT: Final = "All days are UTC. The signed document is attached; it has the letters that stand here as question marks."

EXPORTS_OF_PERSON: Final = "Exports about this person, which are out of reach"
EXPORTS_OF_MANY: Final = "Exports about many persons, which may hold something of this"

LABEL_MM: Final = 40

KEYS_DRAWN_MAX: Final = 40
"""Commitments on paper; the attached document has all of them."""

STAGES: Final = {1: ("STAGE 1", "Unreachable"), 2: ("STAGE 2", "Unrecoverable from the enumerated copies")}


def certificate_pdf(exported: Mapping[str, Any]) -> bytes:
    """The PDF of a certificate as `retention.certificate_store.exported` gives it."""
    said = exported["certificate"]
    made_at = _midnight(said["issued_on"])
    paper = Paper(TITLE, said["id"], FOOT, made_at)
    paper.add_page()
    _front(paper, said)
    _details(paper, exported)
    content = orjson.dumps(exported, option=orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2)
    paper.attach("certificate.json", content, "The signed certificate with its list of keys", made_at)
    return paper.drawn()


def _front(paper: Paper, said: Mapping[str, Any]) -> None:
    """The title, the stage, and what somebody reads who reads no further."""
    paper.band("L E T H E", TITLE)
    number, name = STAGES[said["stage"]]
    paper.mark(number, f"{name} from {_day(said['unrecoverable_from'] or said['unreachable_from'])}")
    for label, value in _facts(said):
        paper.fact(label, value, LABEL_MM)
    paper.ln(3)
    for sentence in said["statements"]:
        paper.paragraph(sentence, 10)


def _facts(said: Mapping[str, Any]) -> list[tuple[str, str]]:
    about = said["about"]
    return [
        ("Certificate", said["id"]),
        ("Account", said["account"]),
        ("Issued", f"{_day(said['issued_on'])}, revision {said['revision']}"),
        ("Unreachable from", _day(said["unreachable_from"])),
        ("Unrecoverable from", _unrecoverable(said)),
        ("Why", about.get("ground") or "its time under the policy was over"),
        *([("Asked for", _day(about["asked_on"]))] if "asked_on" in about else []),
        ("Policy", f"{about['pack']}, version {about['pack_version']}, {_clauses(about['clauses'])}"),
    ]


def _details(paper: Paper, exported: Mapping[str, Any]) -> None:
    said = exported["certificate"]
    _destroyed(paper, said, exported["destroyed_keys"])
    if said["kept"]:
        paper.heading("What was kept, and why")
        kept = [(row["class"], row["limb"] or "-", row["why"]) for row in said["kept"]]
        paper.rows(("class", "limb", "why"), kept, (24, 40, 106))
    paper.heading("Copies of the epoch keys that wrapped them")
    day, named = ("by", "at the latest") if said["stage"] == 1 else ("gone_from", "gone from")
    copies = [(row["place"], row["method"], _short(row[day])) for row in said["copies"]]
    paper.rows(("copy", "method", named), copies, (92, 54, 24))
    paper.heading("Where it had been, and what became of it")
    held = [(row["artefact"], row["held"], row["state"]) for row in said["inventory"]]
    paper.rows(("artefact", "what it held", "state"), held, (46, 48, 76))
    for of_many, heading in ((False, EXPORTS_OF_PERSON), (True, EXPORTS_OF_MANY)):
        left = [
            (row["month"], row["kind"], "parts opened" if row["opened"] else "nothing opened", str(row["count"]))
            for row in said.get("exports", ())
            if is_of_many(row) == of_many
        ]
        if left:
            paper.heading(heading)
            paper.rows(("month", "kind", "what it shows", "how many"), left, (30, 60, 52, 28))
    paper.heading("Acknowledged")
    told = [(row["where"], row["what"], _short(row["on"])) for row in said["acknowledgements"]]
    paper.rows(("where", "what", "on"), told, (40, 106, 24))
    paper.heading("What was still open for a while")
    windows = [(row["what"], row["why"], _short(row["until"])) for row in said["windows"]]
    paper.rows(("what", "why", "until"), windows, (56, 90, 24))
    paper.heading("What could still be guessed")
    for sentence in said["still_possible"]:
        paper.paragraph(sentence, 9)
    _checking(paper, exported)


def _destroyed(paper: Paper, said: Mapping[str, Any], keys: Mapping[str, Any] | None) -> None:
    paper.heading("What was destroyed")
    about = said["about"]
    if about["kind"] == "plan":
        items = [(i["item"], f"clause {i['clause']}", _short(i["due_on"]), str(i["keys"])) for i in about["items"]]
        paper.rows(("item", "under", "due", "keys"), items, (84, 40, 28, 18))
    else:
        paper.paragraph("Every key of the classes " + ", ".join(said["keys"]["classes"]) + ".", 9)
    if keys is None:
        return
    shown = keys["keys"][:KEYS_DRAWN_MAX]
    crowd = f" They are of {keys['erasures']} erasures of that day; none of them says whose it was."
    paper.paragraph(
        f"{len(keys['keys'])} keys by the commitment that was published when they were made."
        + (crowd if keys["erasures"] else "")
        + (
            f" The first {len(shown)} are shown; the attached document has all."
            if len(shown) < len(keys["keys"])
            else ""
        ),
        9,
    )
    lines = [(key["commitment"], key["class"], _short(key["made_on"])) for key in shown]
    paper.rows(("commitment", "class", "made on"), lines, (112, 34, 24), mono=0)


def _checking(paper: Paper, exported: Mapping[str, Any]) -> None:
    paper.heading("How to check this certificate")
    paper.paragraph(
        "Take certificate.json out of this file and check it with the account's public key, on any machine and without "
        "a network: lethe certificate verify certificate.json --public-key KEY. The log holds the digest.",
        9,
    )
    lines = (
        ("public key", exported["public_key"]),
        ("signature", exported["signature"]),
        ("digest", digest_of(exported["certificate"])),
    )
    paper.rows(("Ed25519", "hex"), lines, (24, 146), mono=1)


def _unrecoverable(said: Mapping[str, Any]) -> str:
    if said["unrecoverable_from"]:
        return _day(said["unrecoverable_from"])
    return f"not yet: {_day(said['horizon'])} at the latest"


def _clauses(clauses: Sequence[str]) -> str:
    if not clauses:
        return "no clause named"
    return ("clause " if len(clauses) == 1 else "clauses ") + ", ".join(clauses)


def _day(text: str) -> str:
    return long_day(date.fromisoformat(text))


def _short(text: str) -> str:
    return short_day(date.fromisoformat(text))


def _midnight(text: str) -> datetime:
    return datetime.combine(date.fromisoformat(text), time(), UTC)

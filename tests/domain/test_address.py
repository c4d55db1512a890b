"""One mailbox has one canonical spelling, and no error ever repeats what it refused (DESIGN 5, FAULTS 22)."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from domain.address import (
    ADDRESS_OCTETS_MAX,
    CANONICALISER_VERSION,
    InvalidAddress,
    _is_plain,
    _parsed,
    canonical_address,
    deliverable_address,
)

ATEXT = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'*+/=?^_`{|}~-"
atoms = st.text(ATEXT, min_size=1, max_size=12)
plain_locals = st.lists(atoms, min_size=1, max_size=4).map(".".join)
labels = st.from_regex(r"[a-zA-Z]([a-zA-Z0-9]{0,8}[a-zA-Z])?", fullmatch=True)
plain_domains = st.lists(labels, min_size=2, max_size=4).map(".".join)
plain_addresses = st.builds("{}@{}".format, plain_locals, plain_domains)
letters = st.characters(categories=["Lu", "Ll", "Lo", "Mn", "Nd", "So"])
international_locals = st.text(letters, min_size=1, max_size=12)
quoted_locals = st.text(st.characters(categories=["Lu", "Ll", "Nd", "Po", "Sm"]), min_size=1, max_size=9).map(
    lambda text: '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
)
idn_domains = st.sampled_from(["Bücher.example", "straße.example", "例え.example", "δοκιμή.example", "नमूना.example"])
addresses = st.builds("{}@{}".format, plain_locals | international_locals | quoted_locals, plain_domains | idn_domains)

CANONICAL = [
    ("anna@example.com", "anna@example.com"),
    ("  Anna@Example.COM\r\n", "anna@example.com"),
    ("\ufeffanna@example.com\u00a0", "anna@example.com"),
    ("first.last+Tag@example.com", "first.last+tag@example.com"),
    ("F.I.R.S.T@gmail.example", "f.i.r.s.t@gmail.example"),
    ("anna@Bücher.Example", "anna@xn--bcher-kva.example"),
    ("anna@XN--BCHER-KVA.example", "anna@xn--bcher-kva.example"),
    ("anna@straße.example", "anna@xn--strae-oqa.example"),
    ("anna@例え。example", "anna@xn--r8jz45g.example"),
    ("JOSÉ@example.com", "josé@example.com"),
    ("jose\u0301@example.com", "jos\u00e9@example.com"),
    ("用户@例え.example", "用户@xn--r8jz45g.example"),
    ('"Anna Smith"@example.com', '"anna smith"@example.com'),
    ('"anna"@example.com', "anna@example.com"),
    ('"an\\na"@example.com', "anna@example.com"),
    ('"a@b"@example.com', '"a@b"@example.com'),
    ('"a\\"b\\\\"@example.com', '"a\\"b\\\\"@example.com'),
    ("anna@3com.example", "anna@3com.example"),
    ("a" * 64 + "@example.com", "a" * 64 + "@example.com"),
]

REFUSED = [
    ("", "empty"),
    (" \t\r\n\u00a0", "empty"),
    ("secretperson", "no_at_sign"),
    ("@example.com", "local_part_empty"),
    ("secretperson@", "domain_empty"),
    ("secretperson@localhost", "domain_incomplete"),
    ("secretperson@a@example.com", "several_at_signs"),
    ("secretperson@example.com,other@example.com", "several_at_signs"),
    ('"secretperson"@a@example.com', "several_at_signs"),
    ("secret person@example.com", "whitespace"),
    ("secretperson@exam ple.com", "whitespace"),
    ("secretperson\t@example.com", "whitespace"),
    ("secretperson@example.com\r\nBcc:x@example.com", "whitespace"),
    ("Secret <secretperson@example.com>", "whitespace"),
    ("<secretperson@example.com>", "local_part_character"),
    ("secret\u3000person@example.com", "whitespace"),
    ("secret\x00person@example.com", "control_character"),
    ("secret\x7fperson@example.com", "control_character"),
    ("secret\u202eperson@example.com", "control_character"),
    ("secret\u200bperson@example.com", "control_character"),
    ("secret\u200dperson@example.com", "control_character"),
    ("secret\ud800person@example.com", "control_character"),
    ('"secret\x01person"@example.com', "control_character"),
    ("secretperson@exam\u200bple.com", "control_character"),
    (".secretperson@example.com", "local_part_dots"),
    ("secret..person@example.com", "local_part_dots"),
    ("secretperson.@example.com", "local_part_dots"),
    ('secret"person@example.com', "local_part_character"),
    ("secret(person)@example.com", "local_part_character"),
    ('""@example.com', "local_part_quotes"),
    ('"secretperson@example.com', "local_part_quotes"),
    ('"secretperson"x@example.com', "local_part_quotes"),
    ("secretperson@[192.0.2.1]", "ip_literal"),
    ("secretperson@[IPv6:2001:db8::1]", "ip_literal"),
    ("secretperson@192.0.2.1", "ip_literal"),
    ("secretperson@１９２.0.2.1", "ip_literal"),
    ("secretperson@example.com.", "domain_label"),
    ("secretperson@example..com", "domain_label"),
    ("secretperson@-example.com", "domain_label"),
    ("secretperson@example-.com", "domain_label"),
    ("secretperson@exam_ple.com", "domain_label"),
    ("secretperson@example.123", "domain_label"),
    ("secretperson@xn--abc-.example", "domain_label"),
    ("secretperson@xn--a.example", "domain_label"),
    ("secretperson@" + "b" * 64 + ".com", "domain_label"),
    ("secretperson" * 6 + "@example.com", "local_part_too_long"),
    ("é" * 33 + "@example.com", "local_part_too_long"),
    ("İ" * 32 + "@example.com", "local_part_too_long"),
    ("secretperson@" + ("b" * 60 + ".") * 4 + "com", "too_long"),
    ("s" * 308 + "@example.com", "too_long"),
    ("s" * 3_000_000 + "@example.com", "too_long"),
]


@pytest.mark.parametrize(("raw", "canonical"), CANONICAL)
def test_each_spelling_has_its_canonical_form(raw: str, canonical: str) -> None:
    """The table is the contract of canonicaliser version 1: a change here needs a new version."""
    assert CANONICALISER_VERSION == 1
    assert canonical_address(raw) == canonical
    assert canonical_address(canonical) == canonical


@pytest.mark.parametrize(("raw", "code"), REFUSED)
def test_each_fault_has_its_code_and_the_error_never_holds_the_address(raw: str, code: str) -> None:
    """An error can be logged as it is, whatever was in the field."""
    for function in (canonical_address, deliverable_address):
        with pytest.raises(InvalidAddress) as refused:
            function(raw)
        assert refused.value.code == code
        assert refused.value.reason.startswith(code + ": ")
        assert str(refused.value) == refused.value.reason
        assert "secret" not in repr(refused.value)
        assert refused.value.__cause__ is None
        assert refused.value.__context__ is None, "an exception of the IDNA library would quote the domain"


def test_a_320_byte_address_is_told_that_it_is_too_long() -> None:
    """The old folklore limit of 64 + 1 + 255 octets gets a clear answer."""
    raw = "l" * 64 + "@" + ("d" * 62 + ".") * 4 + "com"
    assert len(raw) == 320
    with pytest.raises(InvalidAddress, match="longer than 254 octets"):
        canonical_address(raw)


def test_the_limit_is_in_octets_of_the_form_that_is_stored() -> None:
    """254 octets pass and 255 do not, on the fast path and with an IDN that grows when encoded."""
    domain = ("d" * 61 + ".") * 3 + "com"
    assert len(canonical_address("l" * (253 - len(domain)) + "@" + domain)) == ADDRESS_OCTETS_MAX
    with pytest.raises(InvalidAddress, match="too_long"):
        canonical_address("l" * (254 - len(domain)) + "@" + domain)
    with pytest.raises(InvalidAddress, match="too_long"):
        canonical_address("é" * 20 + "@" + ("ü" * 40 + ".") * 5 + "example")


def test_mail_goes_to_the_local_part_as_given() -> None:
    """Lower-casing is for matching only; the domain has no case."""
    assert deliverable_address(" Anna.Smith+X@Example.COM ") == "Anna.Smith+X@example.com"
    assert deliverable_address('"Anna"@Bücher.example') == '"Anna"@xn--bcher-kva.example'
    assert deliverable_address("Jose\u0301@example.com") == "Jos\u00e9@example.com"


@given(addresses)
@example('"\\=\u0338"@example.com')
@example("ΑΣ@example.com")
def test_canonical_is_idempotent_and_agrees_with_the_deliverable_form(raw: str) -> None:
    """The fingerprint of an address is that of its canonical and of its deliverable form."""
    try:
        canonical = canonical_address(raw)
    except InvalidAddress:
        with pytest.raises(InvalidAddress):
            deliverable_address(raw)
        return
    assert canonical_address(canonical) == canonical
    assert canonical_address(deliverable_address(raw)) == canonical
    assert deliverable_address(deliverable_address(raw)) == deliverable_address(raw)


@given(plain_addresses)
def test_the_fast_path_answers_as_the_long_way_does(raw: str) -> None:
    """Two ways to one answer: anything else would give one mailbox two fingerprints."""
    if _is_plain(raw) and len(raw) <= ADDRESS_OCTETS_MAX:
        local, domain = _parsed(raw)
        assert canonical_address(raw) == f"{local.lower()}@{domain}"
        assert deliverable_address(raw) == f"{local}@{domain}"


@given(st.text(max_size=40) | addresses)
@example("\u212aelvin@example.com")
@example("a@example.com\n")
def test_whatever_the_fast_path_takes_the_long_way_takes_too(raw: str) -> None:
    """The regular expression is never laxer than the parser."""
    if _is_plain(raw) and len(raw) <= ADDRESS_OCTETS_MAX:
        _parsed(raw)


@given(plain_addresses)
def test_case_and_outer_whitespace_never_matter(raw: str) -> None:
    """Given any plain address, its shouted and padded spellings are the same mailbox."""
    if len(raw) <= ADDRESS_OCTETS_MAX and len(raw.split("@")[0]) <= 64:
        expected = canonical_address(raw)
        for spelling in (raw.upper(), raw.lower(), raw.swapcase(), f" \t{raw}\r\n", f"\u00a0{raw}\u3000"):
            assert canonical_address(spelling) == expected


@given(plain_addresses)
def test_dots_and_tags_are_kept(raw: str) -> None:
    """They may be somebody else's mailbox, so nothing but case changes."""
    if len(raw) <= ADDRESS_OCTETS_MAX and len(raw.split("@")[0]) <= 64:
        assert canonical_address(raw) == raw.lower()


@given(international_locals, idn_domains)
def test_composed_and_decomposed_spellings_are_equal(local: str, domain: str) -> None:
    """NFC and NFD of one address give one fingerprint."""
    try:
        expected = canonical_address(f"{local}@{domain}")
    except InvalidAddress:
        return
    assert canonical_address(unicodedata.normalize("NFC", f"{local}@{domain}")) == expected
    assert canonical_address(unicodedata.normalize("NFD", f"{local}@{domain}")) == expected


@given(plain_locals, plain_domains, st.characters(categories=["Cc", "Cf", "Cs", "Co", "Zl", "Zp"]), st.data())
def test_control_characters_inside_are_refused(local: str, domain: str, control: str, data: st.DataObject) -> None:
    """A control, format or surrogate character is refused wherever it stands in the local part."""
    where = data.draw(st.integers(1, len(local)))
    for spelling in (local[:where] + control + local[where:], f'"{local[:where]}{control}{local[where:]}"'):
        with pytest.raises(InvalidAddress):
            canonical_address(f"{spelling}@{domain}")


@given(st.text(min_size=8, max_size=60))
def test_no_error_contains_its_input(raw: str) -> None:
    """Whatever is refused is not repeated, in whole or in part: the text depends on the code alone."""
    refused: InvalidAddress | None = None
    try:
        canonical_address(raw)
    except InvalidAddress as error:
        refused = error
    assert refused is None or refused.args == InvalidAddress(refused.code).args

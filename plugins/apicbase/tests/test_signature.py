"""The webhook's signature. The numbers of the edge cases are those of vendors/apicbase.md, 4; the vectors are its section 2."""

from __future__ import annotations

import hmac
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import gateway_apicbase
import pytest
from gateway_apicbase import signature
from gateway_apicbase.signature import ascii_form, escaped, is_genuine
from hypothesis import given
from hypothesis import strategies as st

from gateway import Envelope
from gateway.testing import load_samples

BODIES = {sample.name: sample.body for sample in load_samples(Path(__file__).parent.parent / "samples")}
ASCII, COMPACT = BODIES["01_ascii_as_signed"], BODIES["02_utf8_signed_over_ascii"]
HEADER = b"X-APIC-WEBHOOK-SIGNATURE"
DOCUMENTED = "327d11248c5d5df3a2ab844c39f7d4fee641a7e4bc762c8b4d11f1c20d1610e4"
DOCUMENTED_COMPACT = "69014ad0d9328286ffd1f9d7a4c3b4abc623a7b7cc42741521ce4e10192c8706"


def sign(body: bytes, key: str = "constructed-secret-do-not-use") -> str:
    return hmac.new(key.encode(), body, "sha256").hexdigest()


def envelope(body: bytes, *signatures: str, header: bytes = HEADER) -> Envelope:
    at = datetime(2024, 3, 31, 12, tzinfo=UTC)
    return Envelope(source="apicbase", body=body, headers=[(header, s.encode("latin-1")) for s in signatures], received_at=at)


@pytest.fixture
def verify(settings: Callable[..., Any]) -> Callable[..., bool]:
    def call(envelope: Envelope, **changes: Any) -> bool:
        return bool(gateway_apicbase.verify(envelope, settings(**changes)))

    return call


def test_documented_vectors_are_what_the_samples_carry() -> None:
    assert (len(ASCII), sign(ASCII)) == (646, DOCUMENTED)
    assert (len(COMPACT), sign(COMPACT)) == (572, DOCUMENTED_COMPACT)


def test_raw_signature_is_accepted_without_the_fallback(verify: Callable[..., bool]) -> None:
    assert verify(envelope(ASCII, DOCUMENTED), ascii_fallback=False)
    assert verify(envelope(COMPACT, DOCUMENTED_COMPACT), ascii_fallback=False)


def test_signature_over_the_ascii_form_of_a_compact_body_passes_only_through_the_fallback(verify: Callable[..., bool]) -> None:
    assert verify(envelope(COMPACT, DOCUMENTED))
    assert not verify(envelope(COMPACT, DOCUMENTED), ascii_fallback=False)


def test_any_of_several_secrets_will_do_during_a_rotation(verify: Callable[..., bool], settings: Callable[..., Any]) -> None:
    old, new = (type(settings().webhook_secrets[0])(text, origin="test") for text in ("old", "new"))
    for key, genuine in (("old", True), ("new", True), ("older", False)):
        assert verify(envelope(ASCII, sign(ASCII, key)), webhook_secrets=(old, new)) is genuine
    assert not verify(envelope(ASCII, sign(ASCII, "")), webhook_secrets=())


def test_case_14_signature_header_missing_doubled_or_prefixed_is_refused_and_case_does_not_matter(verify: Callable[..., bool]) -> None:
    assert verify(envelope(ASCII, DOCUMENTED.upper()))
    assert verify(envelope(ASCII, DOCUMENTED, header=HEADER.lower()))
    assert not verify(envelope(ASCII))
    assert not verify(envelope(ASCII, DOCUMENTED, DOCUMENTED))
    assert not verify(envelope(ASCII, "sha256=" + DOCUMENTED))
    assert not verify(envelope(ASCII, "0x" + DOCUMENTED))
    assert not verify(envelope(ASCII, DOCUMENTED + DOCUMENTED))
    assert not verify(envelope(ASCII, ""))
    assert not verify(envelope(ASCII, DOCUMENTED, header=b"X-APIC-Signature"))


def test_signature_header_may_have_another_name(verify: Callable[..., bool]) -> None:
    assert verify(envelope(ASCII, DOCUMENTED, header=b"X-Other"), signature_header="X-Other")
    assert not verify(envelope(ASCII, DOCUMENTED), signature_header="X-Other")


RUBBISH = [
    b"",
    b"\xff\xfe\x00",
    b"\xef\xbb\xbf{}",
    b"{",
    b"[" * 100_000,
    b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    b'{"a": ' + b"9" * 100_000 + b"}",
    b'{"a": 1e999999}',
    b'"\\ud800"',
    b"NaN",
]


@pytest.mark.parametrize("body", RUBBISH, ids=range(len(RUBBISH)))
def test_verify_answers_false_and_raises_nothing_on_rubbish(verify: Callable[..., bool], body: bytes) -> None:
    assert verify(envelope(body, "0" * 64)) is False
    assert verify(envelope(body, "\xe9\xdf\xff")) is False


LARGEST = {
    "objects": b"[" + b'{"a":0},' * 65_000 + b"0]",
    "lists": b"[" + b"[]," * 174_000 + b"0]",
    "empty texts": b"[" + b'"",' * 174_000 + b"0]",
    "escapes": b'{"a": "' + b"\\u00e9" * 87_000 + b'"}',
    "escaped letters": b'{"a": "' + b"\\u0041" * 87_000 + b'"}',
    "back slashes": b'{"a": "' + b"\\\\" * 260_000 + b'"}',
    "letters outside ASCII": ('{"a": "' + "\u00e9\u20ac" * 104_000 + '"}').encode(),
    "what grows sixfold": b'{"a": "' + b"\x7f" * 524_000 + b'"}',
    "numbers": b"[" + b"9" * 4300 + (b"," + b"9" * 4300) * 120 + b"]",
}


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is parsed while the test runs."""
    seen: list[Any] = []
    loads = json.loads
    monkeypatch.setattr(json, "loads", lambda text, **how: seen.append(text) or loads(text, **how))
    return seen


@pytest.mark.parametrize("body", LARGEST.values(), ids=LARGEST.keys())
def test_a_body_that_is_not_proven_is_not_parsed_and_costs_little(verify: Callable[..., bool], parsed: list[Any], body: bytes) -> None:
    assert 500_000 < len(body) <= 512 * 1024
    began = time.process_time()
    assert verify(envelope(body, "0" * 64)) is False
    took = time.process_time() - began
    assert parsed == []
    assert took < 0.5  # some 0.02 s here; quadratic behaviour would be minutes


def test_a_proven_body_is_parsed_to_see_that_it_is_its_ascii_form(verify: Callable[..., bool], parsed: list[Any]) -> None:
    assert verify(envelope(COMPACT, DOCUMENTED))
    assert parsed == [COMPACT]


def test_the_fallback_is_for_bodies_up_to_half_a_mebibyte(verify: Callable[..., bool]) -> None:
    for size, genuine in ((512 * 1024, True), (512 * 1024 + 1, False)):
        body = b'{"a":"' + b"x" * (size - 8) + b'"}'
        assert len(body) == size
        assert verify(envelope(body, sign(json.dumps(json.loads(body)).encode()))) is genuine
        assert verify(envelope(body, sign(body)))


TEXTS = st.text(st.sampled_from(',:"\\/ \n\t\x01\x7f\x00u01nab{}[]\u00e9\u20ac\U0001f600') | st.characters(codec="utf-8"), max_size=8)
PLAIN = st.none() | st.booleans() | st.integers() | TEXTS
DOCUMENTS = st.recursive(PLAIN, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4), max_leaves=12)


@given(DOCUMENTS, st.booleans(), st.sampled_from([None, 1]), st.sampled_from([(",", ":"), (", ", ": "), (" ,\r\n", "\t: ")]), st.booleans())
def test_escaped_is_what_python_writes(document: Any, ascii_only: bool, indent: int | None, separators: Any, slashes: bool) -> None:
    sent = json.dumps(document, ensure_ascii=ascii_only, indent=indent, separators=separators)
    sent = sent.replace("/", "\\/") if slashes else sent
    made = escaped(sent.encode())
    assert made == json.dumps(document).encode() or (made is None and "\\u0001" in sent)


@given(DOCUMENTS, st.integers(1, 9))
def test_escaped_does_not_depend_on_how_it_is_sliced(document: Any, size: int) -> None:
    sent = json.dumps(document, ensure_ascii=False).encode()
    whole = escaped(sent)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(signature, "_SLICE", size)
        assert escaped(sent) == whole


@given(st.binary(max_size=60) | st.text(st.sampled_from('",:\\u0 1n[]{}\u00e9'), max_size=40).map(str.encode))
def test_only_the_ascii_form_of_the_very_body_is_proven(body: bytes) -> None:
    """Whatever `escaped` makes of bytes that are no JSON: signed, it proves nothing but what the parser makes of them."""
    made = escaped(body)
    if made is not None and made != body:
        assert is_genuine(body, sign(made), ["constructed-secret-do-not-use"], ascii_fallback=True) is (ascii_form(body) == made)


def test_fallback_does_not_prove_a_body_in_which_a_key_stands_twice(verify: Callable[..., bool]) -> None:
    doubled = ASCII.replace(b'{"id":', b'{"id": "another", "id":', 1)
    assert json.dumps(json.loads(doubled)).encode() == ASCII
    assert not verify(envelope(doubled, DOCUMENTED))

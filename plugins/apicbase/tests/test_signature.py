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


def test_fallback_on_a_body_of_the_largest_size_takes_no_time_to_speak_of(verify: Callable[..., bool]) -> None:
    bodies = [
        b"[" + b"[]," * 349_000 + b"0]",
        b'{"a": "' + b"\\u00e9" * 174_000 + b'"}',
        b"[" + b"9" * 4300 + (b"," + b"9" * 4300) * 240 + b"]",
    ]
    for body in bodies:
        assert len(body) <= 1024 * 1024 + 64
        began = time.process_time()
        assert verify(envelope(body, "0" * 64)) is False
        assert time.process_time() - began < 1.0  # some 0.1 s here; quadratic behaviour would be minutes


def test_fallback_does_not_prove_a_body_in_which_a_key_stands_twice(verify: Callable[..., bool]) -> None:
    doubled = ASCII.replace(b'{"id":', b'{"id": "another", "id":', 1)
    assert json.dumps(json.loads(doubled)).encode() == ASCII
    assert not verify(envelope(doubled, DOCUMENTED))

"""Secrets inside a body: a mark for expressions, the secret on the wire, and nothing an order says can become one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gateway.api.secrets import Secret
from gateway.targets.secrets_in_bodies import marks, unmarked


@pytest.fixture
def key(tmp_path: Path) -> Secret:
    (tmp_path / "key").write_text('s"\\ecret\n')
    return Secret.from_reference({"file": "key"}, tmp_path)


def test_a_mark_becomes_the_secret_whatever_is_in_it(key: Secret) -> None:
    body = json.dumps({"key": marks({"key": key})["key"], "note": "***key***"}).encode()
    assert key.reveal().encode() not in body
    sent = unmarked(body, {"key": key})
    assert sent is not None
    assert json.loads(sent) == {"key": 's"\\ecret', "note": "***key***"}


def test_marks_of_several_secrets_differ(key: Secret) -> None:
    found = marks({"a": key, "b": key})
    assert found["a"] != found["b"]
    assert len(found["a"]) > 32


def test_a_changed_secret_counts_at_once(key: Secret, tmp_path: Path) -> None:
    body = marks({"key": key})["key"].encode()
    (tmp_path / "key").write_text("another\n")
    assert key.refresh()
    assert unmarked(body, {"key": key}) == b"another"


def test_without_secrets_a_body_is_what_it_is() -> None:
    assert unmarked(b"{}", {}) == b"{}"
    assert unmarked(None, {}) is None

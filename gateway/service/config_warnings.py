"""Warnings about a configuration: placeholders of an example, badly copied secrets, certificates that expire soon.

The gateway starts in spite of them; `gateway check` and the journal show them. No warning quotes a secret.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from gateway.api.client_assertion import ends_of
from gateway.api.secrets import Secret
from gateway.config.report import KeyPath, Report
from gateway.config.settings import Config
from gateway.targets.settings import TargetSettings

SOON = timedelta(days=30)

# Names that cannot be registered (RFC 2606, RFC 6761).
_NOWHERE = re.compile(r"(?:^|\.)(?:example|invalid|example\.(?:com|net|org))\Z")
_TO_FILL = re.compile(r"(?:^|[/@.])(?:YOUR|ASK|CHANGE)(?:[-_][A-Z]+)+|\.\.\.|^<.*>\Z")
_WORDS = frozenset({"supplier-1", "example_supplier", "changeme", "change-me", "change_me", "placeholder", "todo", "tbd", "xxx"})
_NO_SECRETS = _WORDS | {"secret", "password", "token", "example", "..."}
_QUOTES = ('"', "'", "`")


def warn_of_doubtful(config: Config, targets: Mapping[str, TargetSettings], report: Report) -> None:
    """Add the warnings to the report."""
    tables: list[tuple[KeyPath, Any]] = [(("targets", name), table) for name, table in config.targets.items()]
    tables += [(("sources", name, "settings"), source.settings) for name, source in {**config.sources, **config.half}.items()]
    for at, table in tables:
        for place, text in _texts(table, at):
            if (why := _placeholder(text)) is not None:
                report.warn(place, why)
    now = datetime.now(UTC)
    for place, secret in report.secrets:
        for why in _doubtful(place, secret):
            report.warn(place, why)
        _ending(place, secret.reveal(), now, report)
    for name, target in targets.items():
        if target.ca_file is not None:
            _ending(("targets", name, "ca_file"), _text(target.ca_file), now, report)


def _texts(value: Any, at: KeyPath) -> Iterator[tuple[KeyPath, str]]:
    if isinstance(value, str):
        yield at, value
    for key, one in value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ():
        yield from _texts(one, (*at, key))


def _placeholder(text: str) -> str | None:
    """Return why a text looks like a placeholder, or None."""
    try:
        host = (urlsplit(text).hostname or "").rstrip(".") if "://" in text else ""
    except ValueError:
        return None
    if _NOWHERE.search(host):
        return f"the host {host} is a placeholder that never answers; write the real one"
    if text.strip().casefold() in _WORDS or ("://" in text and _TO_FILL.search(text)):
        return "looks like a placeholder of an example; write the real value"
    return None


def _doubtful(at: KeyPath, secret: Secret) -> Iterator[str]:
    """Yield what is probably wrong with a secret."""
    text = secret.reveal()
    if text != text.lstrip():
        yield f"begins with white space, which is part of the secret ({secret.origin}); remove it"
    if text.casefold() in _NO_SECRETS:
        yield f"looks like a placeholder ({secret.origin}); put the real secret there"
    if at[-1] == "token" and text.casefold().startswith(("bearer ", "basic ", "token ")):
        yield f'begins with "{text.split()[0]} ", which the gateway adds itself ({secret.origin}); remove it'
    if len(text) > 1 and text[0] in _QUOTES and text[-1] == text[0]:
        yield f"stands in quotes, which are part of the secret ({secret.origin}); remove them"


def _ending(at: KeyPath, pem: str, now: datetime, report: Report) -> None:
    for ends_at in ends_of(pem):
        if ends_at < now:
            report.warn(at, f"holds a certificate that expired on {ends_at:%Y-%m-%d}; put a new one there")
        elif ends_at < now + SOON:
            report.warn(at, f"holds a certificate that expires on {ends_at:%Y-%m-%d}; order a new one")


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except OSError:  # said already
        return ""

"""An HTTP target: one order, one request, one outcome."""

from __future__ import annotations

import base64
import ssl
from datetime import datetime
from urllib.parse import quote

import aiohttp

from gateway.clock import Clock
from gateway.errors import ConfigError
from gateway.outbound.session import Answer, TooLong, Unanswered, Unreached, Untrusted, any_unicast, exchange, open_session
from gateway.store.base import OutboxRow
from gateway.target.classify import Outcome, classify
from gateway.target.settings import Basic, Bearer, Header, TargetSettings

_MAX_ANSWER_BYTES = 1024 * 1024
# CloudEvents 1.0, HTTP binding 3.1.3.2: what is not printable ASCII, and space, quote and percent, is percent-encoded.
_SAFE = "!#$&'()*+,/:;<=>?@[\\]^`{|}"


class HttpTarget:
    """Sends deliveries to one ERP. `open()` inside the running loop, `close()` at the end."""

    def __init__(self, name: str, settings: TargetSettings, clock: Clock) -> None:
        self.name = name
        self.settings = settings
        self._clock = clock
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Make the session. Raises ConfigError where `ca_file` cannot be used."""
        settings = self.settings
        try:
            self._session = open_session(
                allowed=any_unicast,
                connections=settings.concurrency,
                connect_timeout_s=settings.connect_timeout_s,
                ca_file=settings.ca_file,
            )
        except (OSError, ssl.SSLError) as error:
            raise ConfigError([f"targets.{self.name}.ca_file: cannot be used: {error}"]) from error

    async def close(self) -> None:
        """Close the connections."""
        if self._session:
            await self._session.close()

    async def send(self, row: OutboxRow) -> Outcome:
        """Offer one delivery to the ERP; never raises for what the ERP or the network does."""
        assert self._session is not None
        assert row.body is not None
        settings = self.settings
        try:
            answer = await exchange(
                self._session,
                settings.method,
                settings.url,
                headers={**settings.headers, **self._credentials(), **envelope_headers(row)},
                body=row.body,
                timeout_s=settings.read_timeout_s,
                max_bytes=_MAX_ANSWER_BYTES,
            )
        except Untrusted as error:
            return Outcome(meaning="hold", reason=f"{error}; check its certificate, or set ca_file")
        except Unreached as error:
            return Outcome(meaning="retry", reason=str(error), unwell=True)
        except Unanswered as error:
            return Outcome(meaning="retry", reason=f"{error}; it may have been taken", maybe_taken=True, unwell=True)
        except TooLong as error:
            return classify(error.answer, self._clock.now())
        return classify(answer, self._clock.now())

    async def probe(self) -> Answer:
        """Ask for the headers of the url, with the credentials and without an order. Raises what `exchange` raises."""
        assert self._session is not None
        settings = self.settings
        return await exchange(
            self._session,
            "HEAD",
            settings.url,
            headers={**settings.headers, **self._credentials()},
            body=None,
            timeout_s=settings.read_timeout_s,
            max_bytes=_MAX_ANSWER_BYTES,
        )

    def _credentials(self) -> dict[str, str]:
        match self.settings.auth:
            case Basic(username=username, password=password):
                pair = f"{username}:{password.reveal()}".encode()
                return {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}
            case Bearer(token=token):
                return {"Authorization": f"Bearer {token.reveal()}"}
            case Header(name=name, value=value, prefix=prefix):
                return {name: f"{prefix} {value.reveal()}".strip()}
        return {}


def envelope_headers(row: OutboxRow) -> dict[str, str]:
    """The headers that say which message this is (CONTRACT section 5)."""
    key = quote(row.key, safe=_SAFE)
    return {
        "Content-Type": "application/json",
        "Idempotency-Key": key,
        "ce-specversion": "1.0",
        "ce-id": key,
        "ce-source": f"/sources/{row.source}",
        "ce-type": row.kind,
        "ce-time": _instant(row.occurred_at or row.received_at),
    }


def _instant(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")

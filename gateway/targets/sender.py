"""Sender of requests with a target's credentials; it renews what the ERP refuses, and stops before the account is locked.

Until a proof (a password, a token, a session) has been accepted once, requests go one at a time: sixteen orders at once with a
wrong password would be sixteen tries. A refused proof that was accepted before has expired, and is renewed once for all requests.
One that was never accepted counts as a failure; after `max_consecutive_auth_failures` of them nothing more is sent.
"""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from functools import lru_cache

import aiohttp
from yarl import URL

from gateway.api.errors import AuthError, ConfigError, MappingError, TransientError
from gateway.clock import Clock
from gateway.outbound.answer import Answer, raise_if_busy
from gateway.outbound.session import Unanswered, any_unicast, exchange, open_session, present, tls_context
from gateway.rate_limit import RateLimiter
from gateway.targets.auth_settings import Csrf, NoAuth
from gateway.targets.credentials import Proof, keep_cookies, signer_for, with_cookies
from gateway.targets.expressions import Jsonata, answer_document
from gateway.targets.request import Request
from gateway.targets.secrets_in_bodies import unmarked
from gateway.targets.settings import TargetSettings
from gateway.targets.templates import Unfilled

_MAX_ANSWER_BYTES = 5 * 1024 * 1024
_SAFE = ("GET", "HEAD")
_LOGOUT_S = 3.0


class AuthSender:
    """Sender of one target, within its rate. `open()` inside the running loop, `close()` at the end."""

    def __init__(self, name: str, settings: TargetSettings, clock: Clock) -> None:
        self._name = name
        self._settings = settings
        self._clock = clock
        rate = settings.flow.rate
        self._limiter = RateLimiter(rate.calls if rate else None, rate.per_s if rate else 60.0, clock)
        self._session: aiohttp.ClientSession | None = None
        self._tls: ssl.SSLContext | None = None
        self._signer = signer_for(settings.auth, self._ask, settings.vars, clock)
        self._has_no_credentials = settings.credentials == "none"
        self._csrf = _CsrfTokens(settings.csrf, self, clock) if settings.csrf else None
        self._signing = asyncio.Lock()
        self._gate = asyncio.Lock()
        self._proven = 0
        self._refused = 0
        self._failures = 0

    async def open(self) -> None:
        """Open the session. Raises ConfigError where `ca_file` or the client certificate cannot be used."""
        settings = self._settings
        try:
            self._tls = tls_context(settings.ca_file, settings.client_certificate)
        except (OSError, ssl.SSLError) as error:
            key = "ca_file" if settings.client_certificate is None else "client_cert or ca_file"
            raise ConfigError([f"targets.{self._name}.{key}: cannot be used: {error}"]) from error
        self._session = open_session(
            allowed=any_unicast, connections=settings.concurrency, connect_timeout_s=settings.connect_timeout_s, tls=self._tls
        )

    async def close(self) -> None:
        """Sign out where there is a session, and close the connections."""
        if self._session:
            with suppress(TimeoutError):  # a session that is not ended runs out by itself
                async with asyncio.timeout(_LOGOUT_S):
                    await self._signer.close()
            await self._session.close()

    def reset(self) -> None:
        """Try anew with the current secrets, after one changed or an operator asked for it."""
        self._failures = 0
        self._proven = 0
        self._signer.reset()
        if self._csrf:
            self._csrf.forget()
        if self._tls is not None and self._settings.client_certificate is not None:
            try:
                present(self._tls, *self._settings.client_certificate)
            except (OSError, ValueError):  # certificate and key are two files: the other one follows, and says so again
                pass

    def once_more(self) -> None:
        """Allow one more request with credentials that were refused."""
        most = self._settings.max_consecutive_auth_failures
        self._failures = min(self._failures, most - 1)
        if not self._signer.renews:
            self._refused = 0

    async def sign_in(self) -> None:
        """Get a token or a session where the ERP wants one. Raises as `send`."""
        await self._proof(None)

    async def send(self, request: Request) -> Answer:
        """Send a request; see `Sender.send`."""
        proof = await self._proof(None)
        answer = await self._offer(request, proof)
        if answer is not None and not self._is_refusal(answer):
            return answer
        proof = await self._proof(proof)
        answer = await self._offer(request, proof)
        if answer is not None and not self._is_refusal(answer):
            return answer
        raise self._no_entry()

    async def _proof(self, instead_of: Proof | None) -> Proof:
        async with self._signing:
            if self._failures >= self._settings.max_consecutive_auth_failures:
                raise AuthError(
                    f"the target refused our credentials {self._failures} times; nothing more is sent, so that the account is not "
                    f"locked, until the secret changes, SIGHUP, or `gateway target release {self._name}`"
                )
            try:
                proof = await self._signer.proof(instead_of)
            except AuthError as error:
                self._failures += error.refused
                raise
            if proof is instead_of:  # a password, or a token endpoint that gives the same token again
                raise self._no_entry()
            return proof

    async def _offer(self, request: Request, proof: Proof) -> Answer | None:
        """Send once; return None, with nothing sent, where another request saw this proof refused."""
        if proof.serial == self._proven or self._has_no_credentials:
            return self._judged(await self._exchange(request, proof), proof)
        async with self._gate:
            if proof.serial <= self._refused:
                return None
            if proof.serial != self._proven:
                return self._judged(await self._exchange(request, proof), proof)
        return self._judged(await self._exchange(request, proof), proof)

    def _judged(self, answer: Answer, proof: Proof) -> Answer:
        if self._is_refusal(answer):
            if proof.serial > self._refused:
                self._refused = proof.serial
                if proof.serial == self._proven:
                    self._proven = 0  # expired or changed: no other request tries it
                else:
                    self._failures += 1
        elif answer.status < 500 and proof.serial > self._refused:
            self._proven, self._failures = proof.serial, 0
        return answer

    def _is_refusal(self, answer: Answer) -> bool:
        settings = self._settings
        if self._has_no_credentials:
            return False
        return answer.status in settings.renew_on or (settings.renew_if is not None and self._says_no(settings.renew_if, answer))

    def _says_no(self, when: Jsonata, answer: Answer) -> bool:
        try:
            return when.evaluate(answer_document(answer)) is True
        except MappingError:  # over another answer than it was written for
            return False

    def _no_entry(self) -> AuthError:
        statuses = ", ".join(map(str, self._settings.renew_on))
        return AuthError(f"the target does not accept our credentials ({statuses}); check them and what they may do")

    async def _exchange(self, request: Request, proof: Proof) -> Answer:
        if self._csrf is None or request.method in _SAFE:
            return await self.with_proof(request, proof)
        token = await self._csrf.token(proof)
        if isinstance(token, Answer):
            return token
        answer = await self.with_proof(request, proof, token)
        if answer.status in self._csrf.settings.status:
            token = await self._csrf.token(proof, instead_of=token)
            return token if isinstance(token, Answer) else await self.with_proof(request, proof, token)
        return answer

    async def with_proof(self, request: Request, proof: Proof, csrf: CsrfToken | None = None) -> Answer:
        """Send a request with a proof and a CSRF token."""
        if csrf is None and self._has_no_credentials:
            return await self._ask(request)
        headers = {**request.headers, **self._signer.headers(proof, request), **(csrf.headers if csrf else {})}
        headers = with_cookies(headers, proof.cookies, csrf.cookies if csrf else {})
        body = unmarked(request.body, self._settings.secrets)
        answer = await self._ask(Request(method=request.method, url=request.url, headers=headers, body=body))
        if proof.cookies:
            keep_cookies(proof.cookies, answer)
        if csrf and csrf.cookies:
            keep_cookies(csrf.cookies, answer)
        return answer

    async def _ask(self, request: Request) -> Answer:
        """Send a request as it stands."""
        assert self._session is not None
        await self._limiter.take()
        return await exchange(
            self._session,
            request.method,
            _url(request.url),
            headers=request.headers,
            body=request.body,
            timeout_s=self._settings.read_timeout_s,
            max_bytes=_MAX_ANSWER_BYTES,
        )

    def masked(self, request: Request) -> dict[str, str]:
        """Return a request's headers with secrets as `***`. Signs in nowhere."""
        auth = self._settings.auth
        if isinstance(auth, NoAuth):
            return dict(request.headers)
        names = self._signer.headers(Proof(0), request) if not self._signer.renews else dict.fromkeys(getattr(auth, "send", ()), "")
        if not names:
            names = {"Cookie": ""} if hasattr(auth, "cookies") else {"Authorization": ""}
        hidden = {name: _mask(value) for name, value in names.items()}
        if self._csrf and request.method not in _SAFE:
            hidden[self._csrf.settings.header] = "***"
        return {**request.headers, **hidden}

    @property
    def vars(self) -> dict[str, str]:
        """Variables of the target."""
        return self._settings.vars


class CsrfToken:
    """CSRF token with its cookies, and the proof that fetched it."""

    def __init__(self, header: str, text: str, proof: Proof) -> None:
        self.headers = {header: text}
        self.cookies: dict[str, str] = {}
        self.proof = proof


class _CsrfTokens:
    """Current CSRF token, fetched once for all requests."""

    def __init__(self, settings: Csrf, sender: AuthSender, clock: Clock) -> None:
        self.settings = settings
        self._clock = clock
        self._sender = sender
        self._token: CsrfToken | None = None
        self._turn = asyncio.Lock()

    def forget(self) -> None:
        self._token = None

    async def token(self, proof: Proof, *, instead_of: CsrfToken | None = None) -> CsrfToken | Answer:
        """Return the current token, or the ERP's answer where it refuses the proof.

        Raises:
            AuthError: The answer holds no token.
            TransientError: The token cannot be fetched now; the request was not sent.
        """
        async with self._turn:
            token = self._token
            if token is not None and token is not instead_of and token.proof is proof:
                return token
            self._token = None
            fetched = await self._fetch(proof)
            if isinstance(fetched, CsrfToken):
                self._token = fetched
            return fetched

    async def _fetch(self, proof: Proof) -> CsrfToken | Answer:
        settings = self.settings
        try:
            url = settings.url.fill_url({}, self._sender.vars)
            request = Request(method=settings.method, url=url, headers={settings.header: settings.fetch})
            answer = await self._sender.with_proof(request, proof)
        except Unanswered as error:
            raise TransientError(f"the CSRF token: {error}") from error
        except Unfilled as error:
            raise AuthError(f"the CSRF token: {error}", refused=False) from error
        if answer.status == 401:
            return answer
        raise_if_busy("the CSRF token: the ERP", answer, self._clock.now(), pause_s=None)
        text = answer.headers.get(settings.header, "").strip()
        if not text or text.lower() in ("required", "fetch"):
            raise AuthError(
                f"the ERP gives no {settings.header} ({answer.status}); check csrf.url and what the credentials may do",
                refused=answer.status == 403,
            )
        token = CsrfToken(settings.header, text, proof)
        keep_cookies(token.cookies, answer)
        return token


@lru_cache(maxsize=64)
def _url(text: str) -> URL:
    """Parse an address once; aiohttp keeps its findings in the object."""
    return URL(text, encoded=True)


def _mask(value: str) -> str:
    """Keep the scheme of a credential and hide the rest: `Bearer ***`."""
    word, space, _ = value.partition(" ")
    return f"{word} ***" if space and word.isalpha() else "***"

"""Ways to sign in: each makes proofs that go with requests, and a new one after a refusal."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

from oauthlib import oauth1

from gateway.api.errors import AuthError, MappingError, TransientError
from gateway.clock import Clock
from gateway.mapping.functions import is_nothing
from gateway.outbound.answer import Answer, raise_if_busy
from gateway.outbound.auth_headers import auth_headers
from gateway.outbound.oauth2 import TokenSource
from gateway.outbound.session import TooLong, Unanswered
from gateway.targets.auth_settings import Auth, ClientCredentials, Login, NoAuth, OAuth1
from gateway.targets.expressions import answer_document, encode_body
from gateway.targets.request import Request
from gateway.targets.templates import Unfilled

Ask = Callable[[Request], Awaitable[Answer]]
_TOO_LONG_HEADER = 8192


class Proof:
    """Credential in use, until it is refused.

    Attributes:
        serial: Counts the proofs of one target; a newer one has a higher number.
        text: Of token kinds: the token.
    """

    def __init__(self, serial: int, text: str = "", headers: Mapping[str, str] | None = None) -> None:
        self.serial = serial
        self.text = text
        self.headers = dict(headers or {})
        self.cookies: dict[str, str] = {}


class Signer:
    """Way to sign in."""

    renews = True

    async def proof(self, instead_of: Proof | None) -> Proof:
        """Return the current proof, or a new one in place of `instead_of`; never called twice at the same time.

        Raises:
            AuthError, TransientError: There is none.
        """
        raise NotImplementedError

    def headers(self, proof: Proof, request: Request) -> dict[str, str]:
        """Return the headers for one request."""
        return proof.headers

    def reset(self) -> None:
        """Start over with the current secrets."""
        raise NotImplementedError

    async def close(self) -> None:
        """Sign out where there is a session."""


def signer_for(auth: Auth, ask: Ask, variables: Mapping[str, str], clock: Clock) -> Signer:
    """Return the signer of a target's `auth`."""
    match auth:
        case ClientCredentials():
            return _Tokens(auth, ask, clock)
        case Login():
            return _Sessions(auth, ask, variables, clock)
        case OAuth1():
            return _Signatures(auth, clock)
    return _Constant(auth)


class _Constant(Signer):
    """Password, token or header that is sent as it is. Only a person can change it."""

    renews = False

    def __init__(self, auth: Auth) -> None:
        self._auth = auth
        self._proof = Proof(1)

    async def proof(self, instead_of: Proof | None) -> Proof:
        return self._proof

    def headers(self, proof: Proof, request: Request) -> dict[str, str]:
        return auth_headers(self._auth)

    def reset(self) -> None:
        self._proof = Proof(self._proof.serial + 1)


class _Signatures(_Constant):
    """OAuth1: each request has its own signature."""

    def __init__(self, auth: OAuth1, clock: Clock) -> None:
        super().__init__(NoAuth())
        self._keys = auth
        self._clock = clock

    def headers(self, proof: Proof, request: Request) -> dict[str, str]:
        client = oauth1.Client(
            self._keys.consumer_key.reveal(),
            client_secret=self._keys.consumer_secret.reveal(),
            resource_owner_key=self._keys.token.reveal(),
            resource_owner_secret=self._keys.token_secret.reveal(),
            signature_method=oauth1.SIGNATURE_HMAC_SHA256,
            realm=quote(self._keys.realm, safe="~"),  # the library escapes every value but this one
            nonce=secrets.token_hex(16),
            timestamp=str(self._clock.now_ms() // 1000),
        )
        parts = urlsplit(request.url)
        # The signature covers the decoded query; oauthlib refuses some characters that an address may hold, such as [ and ].
        query = urlencode(parse_qsl(parts.query, keep_blank_values=True))
        _, headers, _ = client.sign(urlunsplit(parts._replace(query=query)), request.method)
        return {"Authorization": headers["Authorization"]}


class _Tokens(Signer):
    """OAuth2 client credentials."""

    def __init__(self, auth: ClientCredentials, ask: Ask, clock: Clock) -> None:
        self._auth = auth
        self._clock = clock

        async def send(method: str, url: str, headers: dict[str, str], body: bytes) -> Answer:
            try:
                return await ask(Request(method=method, url=url, headers=headers, body=body))
            except Unanswered as error:  # of the token endpoint: the order itself was not sent
                raise TransientError(f"the token endpoint: {error}") from error

        self._send = send
        self._proof = Proof(0)
        self.reset()

    async def proof(self, instead_of: Proof | None) -> Proof:
        token = await self._tokens.token(instead_of=instead_of.text if instead_of else None)
        if token != self._proof.text:
            self._proof = Proof(self._proof.serial + 1, token, {"Authorization": f"Bearer {token}"})
        return self._proof

    def reset(self) -> None:
        self._tokens = TokenSource(self._auth, self._send, self._clock)
        self._proof = Proof(self._proof.serial + 1)


class _Sessions(Signer):
    """Login with its cookies and captured headers."""

    def __init__(self, auth: Login, ask: Ask, variables: Mapping[str, str], clock: Clock) -> None:
        self._auth = auth
        self._ask = ask
        self._vars = variables
        self._clock = clock
        self._proof: Proof | None = None
        self._serial = 0
        self._since = 0.0

    async def proof(self, instead_of: Proof | None) -> Proof:
        lifetime_s = self._auth.lifetime_s
        is_old = lifetime_s is not None and self._clock.monotonic() - self._since >= lifetime_s
        if self._proof is None or self._proof is instead_of or is_old:
            self._proof = None
            self._proof = await self._login()
        return self._proof

    async def _login(self) -> Proof:
        try:
            answer = await self._ask(self._request())
        except (TooLong, Unanswered) as error:  # of the login: the order itself was not sent
            raise TransientError(f"the login: {error}") from error
        raise_if_busy("the login: the ERP", answer, self._clock.now())
        document = {**answer_document(answer), "vars": dict(self._vars), "secret": self._secrets()}
        try:
            accepted = 200 <= answer.status < 300 and (self._auth.ok is None or self._auth.ok.evaluate(document) is True)
            if not accepted:
                is_about_us = answer.status in (400, 401, 403) or 200 <= answer.status < 300
                said = f"the ERP does not accept the login ({answer.status}); check its user and its secrets"
                raise AuthError(said if is_about_us else f"the login: the ERP answers {answer.status}; check auth.url", refused=is_about_us)
            headers = {name: self._header(name, text.evaluate(document)) for name, text in self._auth.send.items()}
        except MappingError as error:
            raise AuthError(f"the login: {error}") from error
        self._serial += 1
        proof = Proof(self._serial, headers=headers)
        if self._auth.cookies:
            keep_cookies(proof.cookies, answer)
        if not headers and not proof.cookies:
            raise AuthError("the ERP's answer to the login holds no cookie; check auth.url, or set `send`")
        self._since = self._clock.monotonic()
        return proof

    def _header(self, name: str, value: Any) -> str:
        if is_nothing(value) or not isinstance(value, (str, int)) or isinstance(value, bool):
            raise AuthError(f"the ERP's answer to the login holds nothing for {name}; check its user and its secrets, or auth.send")
        if not str(value).isprintable() or len(str(value)) > _TOO_LONG_HEADER:
            raise AuthError(f"the ERP's answer to the login holds what no header can carry, for {name}")
        return str(value)

    def _request(self) -> Request:
        auth = self._auth
        try:
            url = auth.url.fill_url({}, self._vars)
            headers = {name: text.fill("header", {}, self._vars) for name, text in auth.headers.items()}
            found = None if auth.body is None else auth.body.evaluate({"vars": dict(self._vars), "secret": self._secrets()})
        except (Unfilled, MappingError) as error:
            raise AuthError(f"the login: {error}") from error
        if found is None:
            return Request(method=auth.method, url=url, headers=headers)
        if auth.encoding == "json":
            return Request(
                method=auth.method, url=url, headers={"Content-Type": "application/json", **headers}, body=encode_body(found, "number")
            )
        if not isinstance(found, dict) or not all(isinstance(value, (str, int)) for value in found.values()):
            raise AuthError("the login: a form is made of an object of texts")
        form = urlencode({name: str(value) for name, value in found.items()}).encode()
        return Request(method=auth.method, url=url, headers={"Content-Type": "application/x-www-form-urlencoded", **headers}, body=form)

    def _secrets(self) -> dict[str, str]:
        return {name: secret.reveal() for name, secret in self._auth.secrets.items()}

    def reset(self) -> None:
        self._proof = None

    async def close(self) -> None:
        proof, logout = self._proof, self._auth.logout
        if proof is None or logout is None:
            return
        self._proof = None
        try:
            url = logout.url.fill_url({}, self._vars)
            await self._ask(Request(method=logout.method, url=url, headers=with_cookies(proof.headers, proof.cookies)))
        except (Unfilled, TransientError, TooLong):  # a session that is not ended runs out by itself
            pass


def keep_cookies(cookies: dict[str, str], answer: Answer) -> None:
    """Update a session's cookies from an answer; drop those that expire now."""
    every = getattr(answer.headers, "getall", None)
    for line in every("Set-Cookie", ()) if every is not None else ():
        pair, *attributes = line.split(";")
        name, found, value = pair.strip().partition("=")
        if not found or not name:
            continue
        if any(one.strip().lower().replace(" ", "") in ("max-age=0", "max-age=-1") for one in attributes):
            cookies.pop(name, None)
        else:
            cookies[name] = value


def with_cookies(headers: Mapping[str, str], *jars: Mapping[str, str]) -> dict[str, str]:
    """Return headers with the cookies of several jars; later jars win."""
    cookies = {name: value for jar in jars for name, value in jar.items()}
    sent = {"Cookie": "; ".join(f"{name}={value}" for name, value in cookies.items())} if cookies else {}
    return {**headers, **sent}

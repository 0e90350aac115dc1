"""Who may send to a webhook whose bodies are not signed: the four kinds, and the ways to cheat that are known."""

from __future__ import annotations

import base64
import hmac
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, OKPAlgorithm
from msgspec import Struct

from gateway import Envelope, UnknownKey, WebhookAuth
from gateway.api.jwks import read_keys
from gateway.config.decode import decode
from gateway.config.report import Report
from tests.rsa_keys import jwk, jwks, pair

NOW = datetime(2024, 3, 31, 12, tzinfo=UTC)
KEYS = read_keys(jwks("one", "two"))
CANARY = "s3cret-canary"


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    webhook_auth: WebhookAuth | None = None


def read(folder: Path, **table: Any) -> tuple[Any, list[str]]:
    (folder / "secret").write_text(CANARY + "\n")
    (folder / "second").write_text("second-canary\n")
    report = Report({}, folder / "gateway.toml")
    settings = decode(Settings, {"webhook_auth": table} if table else {}, ("settings",), report)
    return settings and settings.webhook_auth, [problem.partition(": ")[2] for problem in report.problems]


@pytest.fixture
def made(tmp_path: Path) -> Any:
    """`made(kind="bearer", token=...)`: what a table becomes, without a problem."""

    def make(**table: Any) -> Any:
        auth, problems = read(tmp_path, **table)
        assert problems == []
        return auth

    return make


def envelope(*authorizations: str) -> Envelope:
    headers = [(b"authorization", one.encode()) for one in authorizations]
    return Envelope(source="s", body=b"{}", headers=[(b"Host", b"x"), *headers], received_at=NOW)


SECRET, SECOND = {"file": "secret"}, {"file": "second"}
BEARER = {"kind": "bearer", "token": SECRET}
BASIC = {"kind": "basic", "username": "scalepoint", "password": SECRET}
JWT = {"kind": "jwt", "issuer": "https://issuer.example", "audience": "gateway", "jwks_url": "https://issuer.example/jwks"}


# --- settings


@pytest.mark.parametrize("table", [BEARER, BASIC, JWT, {"kind": "none", "i_know_that_anybody_can_send": True}], ids=lambda t: t["kind"])
def test_each_kind_is_read_from_its_table(made: Any, table: dict[str, Any]) -> None:
    auth = made(**table)
    assert auth.jwks == table.get("jwks_url")
    assert CANARY not in repr(auth)


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ({"kind": "beerer"}, "settings.webhook_auth.kind: must be one of bearer, basic, jwt, none; did you mean bearer?"),
        ({"token": SECRET}, "settings.webhook_auth.kind: must be one of bearer, basic, jwt, none"),
        ({"kind": "bearer"}, "settings.webhook_auth: needs the key token"),
        ({"kind": "bearer", "token": "plain"}, "settings.webhook_auth.token: a secret may not stand in the file itself"),
        (BEARER | {"username": "x"}, "settings.webhook_auth.username: is not a key of this table"),
        (BASIC | {"username": "a:b"}, "settings.webhook_auth.username: may not hold a colon"),
        (BASIC | {"username": ""}, "settings.webhook_auth.username: must have a length of at least 1"),
        ({"kind": "jwt", "issuer": "i", "audience": "a"}, "settings.webhook_auth: needs the key jwks_url"),
        (JWT | {"audience": ""}, "settings.webhook_auth.audience: must have a length of at least 1"),
        (JWT | {"jwks_url": "http://issuer.example/jwks"}, "settings.webhook_auth.jwks_url: would be sent unencrypted"),
        (JWT | {"skew_s": 3600}, "settings.webhook_auth.skew_s: must be at most 300"),
        ({"kind": "none"}, "settings.webhook_auth.i_know_that_anybody_can_send: must be true"),
        ({"kind": "none", "i_know_that_anybody_can_send": False}, "settings.webhook_auth.i_know_that_anybody_can_send: must be true"),
    ],
    ids=str,
)
def test_what_cannot_be_used_is_a_problem_with_its_key(tmp_path: Path, table: dict[str, Any], problem: str) -> None:
    auth, problems = read(tmp_path, **table)
    assert auth is None
    assert [one for one in problems if one.startswith(problem)], problems


def test_a_token_that_no_header_can_carry_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "odd").write_text("two words")
    _, problems = read(tmp_path, kind="bearer", token={"file": "odd"})
    assert "holds a space" in problems[0]


def test_keys_over_plain_http_only_from_this_machine_or_where_the_operator_says_so(made: Any) -> None:
    assert made(**JWT | {"jwks_url": "http://127.0.0.1:9/jwks"}).jwks == "http://127.0.0.1:9/jwks"
    assert made(**JWT | {"jwks_url": "http://issuer.example/jwks", "allow_plain_http": True}).jwks == "http://issuer.example/jwks"


# --- bearer and basic


@pytest.mark.parametrize("said", [f"Bearer {CANARY}", f"bearer {CANARY}", f"BEARER   {CANARY} "])
def test_the_token_is_admitted_whatever_the_case_of_its_scheme(made: Any, said: str) -> None:
    assert made(**BEARER).admits(envelope(said), NOW, {}) is True


@pytest.mark.parametrize(
    "said",
    [
        (),
        ("",),
        ("Bearer",),
        ("Bearer ",),
        (CANARY,),
        (f"Basic {CANARY}",),
        (f"Bearer {CANARY}x",),
        (f"Bearer {CANARY[:-1]}",),
        (f"Bearer {CANARY} {CANARY}",),
        (f"Bearer {CANARY.upper()}",),
        (f"Bearer {CANARY}é",),
        (f"Bearer {CANARY}", f"Bearer {CANARY}"),
        (f"Bearer {CANARY}", ""),
        ("Bearer " + "x" * 100_000,),
    ],
    ids=lambda said: str(said)[:40],
)
def test_anything_but_the_one_token_is_refused(made: Any, said: tuple[str, ...]) -> None:
    assert made(**BEARER).admits(envelope(*said), NOW, {}) is False


def test_two_secrets_are_good_during_a_rotation(made: Any) -> None:
    bearer = made(**BEARER, second_token=SECOND)
    basic = made(**BASIC, second_password=SECOND)
    for secret in (CANARY, "second-canary"):
        assert bearer.admits(envelope(f"Bearer {secret}"), NOW, {}) is True
        assert basic.admits(envelope(basic_of("scalepoint", secret)), NOW, {}) is True
    assert bearer.admits(envelope("Bearer third"), NOW, {}) is False


def basic_of(username: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


def test_basic_wants_both_words(made: Any) -> None:
    auth = made(**BASIC)
    assert auth.admits(envelope(basic_of("scalepoint", CANARY)), NOW, {}) is True
    good = base64.b64encode(f"scalepoint:{CANARY}".encode()).decode()
    refused = [
        basic_of("Scalepoint", CANARY),
        basic_of("scalepoint", ""),
        basic_of("", CANARY),
        basic_of("scalepoint", CANARY + ":"),
        f"Basic scalepoint:{CANARY}",
        f"Basic {good[:-1]}!",
        f"Basic {good} {good}",
        f"Bearer {good}",
        "Basic",
        "Basic é",
    ]
    assert [said for said in refused if auth.admits(envelope(said), NOW, {}) is not False] == []
    assert auth.admits(envelope(f"Basic {good}", f"Basic {good}"), NOW, {}) is False


def test_none_admits_everything_because_the_operator_said_so(made: Any) -> None:
    assert made(kind="none", i_know_that_anybody_can_send=True).admits(envelope(), NOW, {}) is True


# --- jwt


def claims(**changes: Any) -> dict[str, Any]:
    at = int(NOW.timestamp())
    said = {"iss": "https://issuer.example", "aud": "gateway", "iat": at, "nbf": at, "exp": at + 300, "scope": "a b", **changes}
    return {name: value for name, value in said.items() if value is not None}


def token(name: str = "one", kid: str | None = "one", algorithm: str = "RS256", **changes: Any) -> str:
    return jwt.encode(claims(**changes), pair(name).key, algorithm=algorithm, headers={"kid": kid} if kid else {})


def forged(header: dict[str, Any], said: dict[str, Any], secret: bytes | None = None) -> str:
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in (header, said)]
    signed = b".".join(parts)
    signature = b"" if secret is None else base64.urlsafe_b64encode(hmac.new(secret, signed, "sha256").digest()).rstrip(b"=")
    return (signed + b"." + signature).decode()


@pytest.mark.parametrize("algorithm", ["RS256", "RS384", "RS512", "PS256"])
def test_a_token_of_the_issuer_for_us_is_admitted(made: Any, algorithm: str) -> None:
    auth = made(**JWT)
    assert auth.admits(envelope(f"Bearer {token(algorithm=algorithm)}"), NOW, KEYS) is True
    assert auth.admits(envelope(f"Bearer {token(aud=['other', 'gateway'])}"), NOW, KEYS) is True
    assert auth.admits(envelope(f"Bearer {token('two', 'two', iat=None, nbf=None)}"), NOW, KEYS) is True


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "https://issuer.example/"},
        {"iss": None},
        {"iss": ["https://issuer.example"]},
        {"aud": "gateway2"},
        {"aud": ["gateway2"]},
        {"aud": []},
        {"aud": None},
        {"exp": None},
        {"exp": int(NOW.timestamp()) - 60},
        {"exp": 1e300},
        {"exp": str(int(NOW.timestamp()) + 300)},
        {"exp": True},
        {"nbf": int(NOW.timestamp()) + 61},
        {"nbf": "soon"},
        {"iat": int(NOW.timestamp()) + 61},
    ],
    ids=str,
)
def test_a_token_that_is_not_for_us_or_not_for_now_is_refused(made: Any, changes: dict[str, Any]) -> None:
    said = forged({"alg": "RS256", "kid": "one"}, claims(**changes)) if set(changes) & {"iss", "nbf", "iat", "exp"} else token(**changes)
    assert made(**JWT).admits(envelope(f"Bearer {said}"), NOW, KEYS) is False


def test_clocks_may_differ_by_a_minute_and_no_more(made: Any) -> None:
    auth, at = made(**JWT), int(NOW.timestamp())
    good: list[dict[str, Any]] = [{"exp": at - 59}, {"nbf": at + 60}, {"iat": at + 60}]
    assert [auth.admits(envelope(f"Bearer {token(**one)}"), NOW, KEYS) for one in good] == [True] * 3
    strict = made(**JWT, skew_s=0)
    assert [strict.admits(envelope(f"Bearer {token(**one)}"), NOW, KEYS) for one in good] == [False] * 3


def test_the_clock_is_the_one_that_is_given(made: Any) -> None:
    said = envelope(f"Bearer {token()}")
    assert made(**JWT).admits(said, NOW + timedelta(seconds=359), KEYS) is True
    assert made(**JWT).admits(said, NOW + timedelta(seconds=360), KEYS) is False


@pytest.mark.parametrize(
    ("changes", "admitted"),
    [({}, True), ({"scope": ["b", 7]}, True), ({"scope": None, "scp": "b"}, True), ({"scope": "ab"}, False), ({"scope": None}, False)],
    ids=str,
)
def test_a_scope_is_wanted_where_one_is_configured(made: Any, changes: dict[str, Any], admitted: bool) -> None:
    assert made(**JWT, scope="b").admits(envelope(f"Bearer {token(**changes)}"), NOW, KEYS) is admitted


def test_a_public_key_is_no_shared_secret(made: Any) -> None:
    """HS256 with the public key as its secret, in every spelling of that key."""
    public = pair().public
    for secret in (
        public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).rstrip(),
        public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        str(jwk()["n"]).encode(),
        b"",
    ):
        said = forged({"alg": "HS256", "kid": "one", "typ": "JWT"}, claims(), secret)
        assert made(**JWT).admits(envelope(f"Bearer {said}"), NOW, KEYS) is False


@pytest.mark.parametrize("alg", ["none", "None", "nOnE", "", None, "RS1", "ES256", 7, ["RS256"]])
def test_a_token_says_which_algorithm_only_among_those_of_its_key(made: Any, alg: Any) -> None:
    said = forged({"alg": alg, "kid": "one"}, claims())
    assert made(**JWT).admits(envelope(f"Bearer {said}"), NOW, KEYS) is False
    if isinstance(alg, str):
        genuine = token().rpartition(".")[2]
        assert made(**JWT).admits(envelope(f"Bearer {said.rpartition('.')[0]}.{genuine}"), NOW, KEYS) is False


def test_keys_that_come_with_a_token_are_not_looked_at(made: Any) -> None:
    for extra in ({"jwk": jwk("stranger")}, {"jku": "https://stranger.example"}, {"x5c": ["x"]}):
        said = jwt.encode(claims(), pair("stranger").key, algorithm="RS256", headers={"kid": "one", **extra})
        assert made(**JWT).admits(envelope(f"Bearer {said}"), NOW, KEYS) is False


def test_a_critical_extension_is_refused(made: Any) -> None:
    said = jwt.encode(claims(), pair().key, algorithm="RS256", headers={"kid": "one", "crit": ["b64"], "b64": True})
    assert made(**JWT).admits(envelope(f"Bearer {said}"), NOW, KEYS) is False


@pytest.mark.parametrize(
    "said",
    [
        (),
        ("Bearer",),
        ("Bearer a.b",),
        ("Bearer a.b.c",),
        ("Bearer ..",),
        ("Bearer é.é.é",),
        ("Bearer " + "e30." * 3000,),
        (f"Basic {token()}",),
        (f"Bearer {token()}", f"Bearer {token()}"),
        (f"Bearer {token()}.",),
        (f"Bearer {token()[:-4]}AAAA",),
        (f"Bearer {token(scope='x' * 9000)}",),
    ],
    ids=lambda said: str(said)[:30],
)
def test_what_is_no_token_is_refused(made: Any, said: tuple[str, ...]) -> None:
    assert made(**JWT).admits(envelope(*said), NOW, KEYS) is False


def test_deep_nesting_in_a_token_is_refused(made: Any) -> None:
    deep = base64.urlsafe_b64encode(b"[" * 5000).rstrip(b"=").decode()
    assert made(**JWT).admits(envelope(f"Bearer {deep[:4000]}.{deep[:4000]}.AA"), NOW, KEYS) is False


def test_a_key_that_is_not_there_is_asked_for_only_by_tokens_that_say_they_are_for_us(made: Any) -> None:
    auth = made(**JWT)
    with pytest.raises(UnknownKey):
        auth.admits(envelope(f"Bearer {token(kid='three')}"), NOW, KEYS)
    with pytest.raises(UnknownKey):
        auth.admits(envelope(f"Bearer {token()}"), NOW, {})
    assert auth.admits(envelope(f"Bearer {token(kid='three', aud='other')}"), NOW, KEYS) is False
    assert auth.admits(envelope(f"Bearer {token('two', 'one')}"), NOW, KEYS) is False


def test_a_token_without_a_key_id_is_tried_with_every_key(made: Any) -> None:
    assert made(**JWT).admits(envelope(f"Bearer {token('two', None)}"), NOW, KEYS) is True
    with pytest.raises(UnknownKey):
        made(**JWT).admits(envelope(f"Bearer {token('stranger', None)}"), NOW, KEYS)


# --- key sets


def test_elliptic_curves_are_keys_as_well(made: Any) -> None:
    curve, edwards = ec.generate_private_key(ec.SECP256R1()), ed25519.Ed25519PrivateKey.generate()
    entries = [
        ECAlgorithm.to_jwk(curve.public_key(), as_dict=True) | {"kid": "ec"},
        OKPAlgorithm.to_jwk(edwards.public_key(), as_dict=True) | {"kid": "ed"},
    ]
    keys = read_keys(json.dumps({"keys": entries}).encode())
    for key, kid, algorithm in ((curve, "ec", "ES256"), (edwards, "ed", "EdDSA")):
        said = jwt.encode(claims(), key, algorithm=algorithm, headers={"kid": kid})
        assert made(**JWT).admits(envelope(f"Bearer {said}"), NOW, keys) is True


def test_keys_that_are_not_for_checking_signatures_are_left_out() -> None:
    entries = [
        jwk("one"),
        jwk("two", kid="enc", use="enc"),
        jwk("two", kid="rsa-oaep", alg="RSA-OAEP"),
        jwk("two", kid="ps", alg="PS256"),
        jwk("small", kid="small") | {"n": "AQAB"},
        {"kty": "oct", "kid": "shared", "k": "c2VjcmV0"},
        {"kty": "RSA", "kid": "empty"},
        {"kty": "EC", "crv": "P-256", "kid": "broken", "x": "AA", "y": "AA"},
        {"kty": "new", "kid": "new"},
        "no object",
    ]
    found = read_keys(json.dumps({"keys": entries}).encode())
    assert {kid: key.algorithms for kid, key in found.items()} == {
        "one": ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
        "ps": ("PS256",),
    }


@pytest.mark.parametrize(
    ("curve", "alg"),
    [
        (ec.SECP384R1(), "ES256"),
        (ec.SECP256R1(), "ES512"),
        (ec.SECP256K1(), "ES256"),
        (ec.SECP256R1(), ""),
        (ed448.Ed448PrivateKey, "EdDSA"),
    ],
)
def test_a_key_whose_algorithm_is_not_that_of_its_curve_is_left_out(curve: Any, alg: str) -> None:
    if isinstance(curve, ec.EllipticCurve):
        entry = ECAlgorithm.to_jwk(ec.generate_private_key(curve).public_key(), as_dict=True)
    else:
        entry = OKPAlgorithm.to_jwk(curve.generate().public_key(), as_dict=True)
    with pytest.raises(ValueError, match="no key"):
        read_keys(json.dumps({"keys": [entry | {"alg": alg}]}).encode())


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"{}",
        b'{"keys": {}}',
        b'{"keys": []}',
        b'{"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}',
        json.dumps({"keys": [jwk()] * 51}).encode(),
        b'{"keys": "' + b"x" * 300_000 + b'"}',
        b'{"keys": [], "keys": []}',
    ],
    ids=lambda b: b[:20],
)
def test_what_is_no_key_set_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError):
        read_keys(body)

"""NetSuite: an empty 204, an id in Location, an external id that is unique, two ways to sign in."""

from __future__ import annotations

import base64
import hmac
import time
from decimal import Decimal
from typing import Any
from urllib.parse import quote

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from gateway.testing.erps import NetSuite
from tests.erps.conftest import Client, Connect, lines_of

RECORD = "/services/rest/record/v1/salesOrder"
TOKEN = "/services/rest/auth/oauth2/v1/token"
SUITEQL = "/services/rest/query/v1/suiteql"
KEY = ec.generate_private_key(ec.SECP256R1())
PUBLIC = KEY.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()


def order(external: str = "gw-1", **more: Any) -> dict[str, Any]:
    line = {"item": {"id": "3"}, "quantity": 2, "rate": Decimal("0.35")}
    return {"entity": {"id": "7"}, "otherRefNum": "PO-1", "externalId": external, "item": {"items": [line]}} | more


async def signed_in(client: Client, key: Any = KEY) -> tuple[int, Any]:
    now = int(time.time())
    claims = {"iss": NetSuite.client_id, "aud": f"{client.erp.address}{TOKEN}", "iat": now, "exp": now + 60, "scope": ["rest_webservices"]}
    assertion = jwt.encode(claims, key, algorithm="ES256", headers={"kid": "constructed"})
    kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
    return await client.form(TOKEN, grant_type="client_credentials", client_assertion_type=kind, client_assertion=assertion)


@pytest.fixture
async def client(connect: Connect):
    erp = NetSuite()
    erp.public_key = PUBLIC
    client = await connect(erp)
    client.headers = {"Authorization": f"Bearer {(await signed_in(client))[1]['access_token']}"}
    return client


async def test_the_id_is_in_location(client) -> None:
    status, body, headers = await client.ask("POST", RECORD, order())
    assert (status, body) == (204, "")
    assert headers["location"] == f"{client.erp.address}{RECORD}/{client.erp.held()[0].id}"
    assert lines_of(client.erp) == [[("SKU-1", Decimal(2), Decimal("0.35"))]]


async def test_an_external_id_is_taken_once(client) -> None:
    await client.ask("POST", RECORD, order())
    status, body, _ = await client.ask("POST", RECORD, order())
    assert (status, "already exists" in body["o:errorDetails"][0]["detail"]) == (400, True)
    assert (await client.ask("GET", f"{RECORD}/eid:gw-1"))[1]["id"] == client.erp.held()[0].id
    assert (await client.ask("GET", f"{RECORD}/eid:gw-2"))[0] == 404
    assert (await client.ask("POST", RECORD, order("gw/1")))[0] == 400
    assert len(client.erp.made) == 1


async def test_ids_come_from_suiteql(client) -> None:
    asked = {"q": "SELECT id, itemid FROM item WHERE itemid IN ('SKU-1', 'NO''PE')"}
    _, body, _ = await client.ask("POST", SUITEQL, asked, Prefer="transient")
    assert [(row["id"], row["itemid"]) for row in body["items"]] == [("3", "SKU-1")]
    assert (await client.ask("POST", SUITEQL, asked))[0] == 400
    injected = {"q": "SELECT id, itemid FROM item WHERE itemid IN ('SKU-1' OR 'a'='a')"}
    assert (await client.ask("POST", SUITEQL, injected, Prefer="transient"))[0] == 400


async def test_what_it_does_not_know_is_a_400(client) -> None:
    for wrong in (order(entity={"id": "999"}), order(item={"items": [{"item": {"id": "999"}, "quantity": 1, "rate": 1}]})):
        status, body, _ = await client.ask("POST", RECORD, wrong)
        assert (status, body["o:errorDetails"][0]["o:errorCode"]) == (400, "USER_ERROR")


async def test_tokens_are_for_the_holder_of_the_key_and_expire(client) -> None:
    assert (await signed_in(client, ec.generate_private_key(ec.SECP256R1())))[0] == 400
    client.erp.expire_tokens()
    assert (await client.ask("POST", RECORD, order()))[0] == 401


async def test_requests_signed_by_oauth1_pass_and_changed_ones_do_not(client) -> None:
    def header(method: str, path: str, secret: str = NetSuite.token[1]) -> str:
        given = {
            "oauth_consumer_key": NetSuite.consumer[0],
            "oauth_token": NetSuite.token[0],
            "oauth_nonce": "n1",
            "oauth_timestamp": "1795200000",
            "oauth_signature_method": "HMAC-SHA256",
            "oauth_version": "1.0",
        }
        pairs = "&".join(f"{quote(n, safe='')}={quote(v, safe='')}" for n, v in sorted(given.items()))
        text = "&".join(quote(part, safe="") for part in (method, client.erp.address + path, pairs))
        key = f"{NetSuite.consumer[1]}&{secret}"
        signature = base64.b64encode(hmac.digest(key.encode(), text.encode(), "sha256")).decode()
        parts = {"realm": NetSuite.account} | given | {"oauth_signature": signature}
        return "OAuth " + ", ".join(f'{n}="{quote(v, safe="")}"' for n, v in parts.items())

    assert (await client.ask("POST", RECORD, order(), Authorization=header("POST", RECORD)))[0] == 204
    assert (await client.ask("POST", RECORD, order("gw-2"), Authorization=header("GET", RECORD)))[0] == 401
    assert (await client.ask("POST", RECORD, order("gw-2"), Authorization=header("POST", RECORD, "wrong")))[0] == 401

"""Business Central, Business One, S/4HANA: OData in three dialects, three ways to sign in."""

from __future__ import annotations

import base64
from decimal import Decimal
from typing import Any
from urllib.parse import quote

import pytest

from gateway.testing.erps import BusinessCentral, BusinessOne, S4Hana
from tests.erps.conftest import Client, Connect, lines_of

BC_ORDERS = f"/v2.0/{BusinessCentral.tenant}/production/api/v2.0/companies({BusinessCentral.company})/salesOrders"
S4 = "/sap/opu/odata/sap/API_SALES_ORDER_SRV"


def bc_order(**more: Any) -> dict[str, Any]:
    line = {"lineType": "Item", "lineObjectNumber": "KG-1", "quantity": Decimal("0.125"), "unitPrice": Decimal("12.3456")}
    return {"customerNumber": "C-100", "externalDocumentNumber": "PO-1", "salesOrderLines": [line]} | more


async def bc_token(client: Client, secret: str = BusinessCentral.client_secret) -> tuple[int, Any]:
    fields = {"grant_type": "client_credentials", "client_id": BusinessCentral.client_id, "client_secret": secret}
    return await client.form(f"/{BusinessCentral.tenant}/oauth2/v2.0/token", scope=BusinessCentral.scope, **fields)


@pytest.fixture
async def bc(connect: Connect):
    client = await connect(BusinessCentral())
    client.headers = {"Authorization": f"Bearer {(await bc_token(client))[1]['access_token']}"}
    return client


async def test_bc_inserts_deep_and_takes_a_number_twice(bc) -> None:
    for _ in range(2):
        status, body, _ = await bc.ask("POST", BC_ORDERS, bc_order())
        assert (status, body["number"][:5]) == (201, "S-ORD")
    assert lines_of(bc.erp) == [[("KG-1", Decimal("0.125"), Decimal("12.3456"))]] * 2


async def test_bc_filters_with_doubled_apostrophes(bc) -> None:
    await bc.ask("POST", BC_ORDERS, bc_order(externalDocumentNumber="PO'1"))
    wanted = quote("externalDocumentNumber eq 'PO''1' and customerNumber eq 'C-100'")
    assert len((await bc.ask("GET", f"{BC_ORDERS}?$filter={wanted}"))[1]["value"]) == 1
    broken = quote("externalDocumentNumber eq 'PO'1' and customerNumber eq 'C-100'")
    assert (await bc.ask("GET", f"{BC_ORDERS}?$filter={broken}"))[0] == 400


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"customerNumber": "NOPE"}, "Internal_RecordNotFound"),
        ({"externalDocumentNumber": "x" * 36}, "Application_StringExceededLength"),
        ({"nonsense": 1}, "BadRequest"),
        (
            {"salesOrderLines": [{"lineType": "Item", "lineObjectNumber": "NOPE", "quantity": 1, "unitPrice": 1}]},
            "Application_DialogException",
        ),
        ({"salesOrderLines": [{"lineType": "Item", "lineObjectNumber": "SKU-1", "quantity": "1", "unitPrice": 1}]}, "BadRequest"),
    ],
)
async def test_bc_says_400_and_a_code(bc, change: dict[str, Any], code: str) -> None:
    status, body, _ = await bc.ask("POST", BC_ORDERS, bc_order(**change))
    assert (status, body["error"]["code"]) == (400, code)
    assert "CorrelationId" in body["error"]["message"]


async def test_bc_tokens_expire_and_a_wrong_secret_gets_none(bc) -> None:
    assert (await bc_token(bc, "wrong"))[0] == 401
    bc.erp.expire_tokens()
    assert (await bc.ask("POST", BC_ORDERS, bc_order()))[0] == 401
    bc.headers = {"Authorization": f"Bearer {(await bc_token(bc))[1]['access_token']}"}
    assert (await bc.ask("POST", BC_ORDERS, bc_order()))[0] == 201


@pytest.fixture
async def b1(connect: Connect):
    return await connect(BusinessOne())


def b1_order(**more: Any) -> dict[str, Any]:
    line = {"ItemCode": "SKU-1", "Quantity": 2, "UnitPrice": Decimal("0.35")}
    return {"CardCode": "C-100", "NumAtCard": "PO-1", "DocDueDate": "2026-12-24", "DocumentLines": [line]} | more


async def b1_login(client: Client, password: str = BusinessOne.password) -> tuple[int, dict[str, str]]:
    body = {"CompanyDB": "SBODEMO", "UserName": "gateway", "Password": password}
    async with client.session.post(f"{client.erp.address}/b1s/v2/Login", json=body) as answer:
        return answer.status, {name: morsel.value for name, morsel in answer.cookies.items()}


async def test_b1_needs_both_cookies(b1) -> None:
    status, cookies = await b1_login(b1)
    assert (status, set(cookies)) == (200, {"B1SESSION", "ROUTEID"})
    half = await b1.ask("POST", "/b1s/v2/Orders", b1_order(), Cookie=f"B1SESSION={cookies['B1SESSION']}")
    assert (half[0], half[1]["error"]["code"]) == (401, 301)
    whole = "; ".join(f"{name}={value}" for name, value in cookies.items())
    for _ in range(2):
        status, body, headers = await b1.ask("POST", "/b1s/v2/Orders", b1_order(), Cookie=whole)
        assert (status, body["DocNum"]) == (201, 10_000 + body["DocEntry"])
        assert headers["location"].endswith(f"/Orders({body['DocEntry']})")
    assert lines_of(b1.erp) == [[("SKU-1", Decimal(2), Decimal("0.35"))]] * 2
    wanted = quote("NumAtCard eq 'PO-1' and CardCode eq 'C-100' and Cancelled eq 'tNO'")
    assert len((await b1.ask("GET", f"/b1s/v2/Orders?$filter={wanted}", Cookie=whole))[1]["value"]) == 2
    b1.erp.expire_sessions()
    assert (await b1.ask("POST", "/b1s/v2/Orders", b1_order(), Cookie=whole))[0] == 401
    assert (await b1_login(b1, "wrong"))[0] == 401


async def test_b1_has_negative_codes_in_two_shapes(b1) -> None:
    cookie = "; ".join(f"{name}={value}" for name, value in (await b1_login(b1))[1].items())
    _, body, _ = await b1.ask("POST", "/b1s/v2/Orders", b1_order(CardCode="NOPE"), Cookie=cookie)
    assert (body["error"]["code"], body["error"]["message"]["value"][:15]) == (-10, "Invalid BP code")
    b1.erp.flat_errors = True
    unknown = b1_order(DocumentLines=[{"ItemCode": "NOPE", "Quantity": 1, "UnitPrice": 1}])
    _, body, _ = await b1.ask("POST", "/b1s/v2/Orders", unknown, Cookie=cookie)
    assert (body["error"]["code"], body["error"]["message"]) == ("-10", "Invalid item number 'NOPE' [RDR1.ItemCode][line: 1]")
    b1.erp.arm("status", status=502)
    status, page, _ = await b1.ask("POST", "/b1s/v2/Orders", b1_order(), Cookie=cookie)
    assert (status, page[:6]) == (502, "<html>")


async def test_b1_logs_out(b1) -> None:
    cookie = "; ".join(f"{name}={value}" for name, value in (await b1_login(b1))[1].items())
    assert (await b1.ask("POST", "/b1s/v2/Logout", Cookie=cookie))[0] == 204
    assert (await b1.ask("GET", "/b1s/v2/CompanyService_GetAdminInfo", Cookie=cookie))[0] == 401
    assert (b1.erp.logins, b1.erp.logouts) == (1, 1)


def s4_order(**more: Any) -> dict[str, Any]:
    head = {"SalesOrderType": "OR", "SalesOrganization": "1710", "DistributionChannel": "10", "OrganizationDivision": "00"}
    item = {"Material": "SKU-1", "RequestedQuantity": "2", "to_PricingElement": [{"ConditionType": "PR00", "ConditionRateValue": "0.35"}]}
    return head | {"SoldToParty": "C-100", "PurchaseOrderByCustomer": "PO-1", "to_Item": [item]} | more


async def test_s4_takes_a_token_only_with_its_own_cookies(connect: Connect) -> None:
    s4 = await connect(S4Hana())
    s4.headers = {"Authorization": "Basic " + base64.b64encode(f"{S4Hana.username}:{S4Hana.password}".encode()).decode()}
    status, text, headers = await s4.ask("POST", f"{S4}/A_SalesOrder", s4_order())
    assert (status, headers["x-csrf-token"], text) == (403, "Required", "CSRF token validation failed")

    async def fetch() -> tuple[str, str]:
        async with s4.session.get(f"{s4.erp.address}{S4}/", headers=s4.headers | {"X-CSRF-Token": "Fetch"}) as answer:
            return answer.headers["x-csrf-token"], "; ".join(f"{name}={morsel.value}" for name, morsel in answer.cookies.items())

    (token, cookies), (_, other) = await fetch(), await fetch()
    assert (await s4.ask("POST", f"{S4}/A_SalesOrder", s4_order(), X_CSRF_Token=token, Cookie=other))[0] == 403
    status, body, _ = await s4.ask("POST", f"{S4}/A_SalesOrder", s4_order(), X_CSRF_Token=token, Cookie=cookies)
    assert (status, body["d"]["SalesOrder"]) == (201, s4.erp.held()[0].id)
    assert lines_of(s4.erp) == [[("SKU-1", Decimal(2), Decimal("0.35"))]]
    wanted = quote("PurchaseOrderByCustomer eq 'PO-1' and SoldToParty eq 'C-100'")
    assert len((await s4.ask("GET", f"{S4}/A_SalesOrder?$filter={wanted}"))[1]["d"]["results"]) == 1
    unknown = s4_order(to_Item=[{"Material": "NOPE", "RequestedQuantity": "1"}])
    status, body, _ = await s4.ask("POST", f"{S4}/A_SalesOrder", unknown, X_CSRF_Token=token, Cookie=cookies)
    assert (status, "NOPE" in body["error"]["message"]["value"]) == (400, True)
    s4.erp.expire_tokens()
    assert (await s4.ask("POST", f"{S4}/A_SalesOrder", s4_order(), X_CSRF_Token=token, Cookie=cookies))[0] == 403

"""Sixty-odd commands that do not fit, each with the path and the reason that its caller hears. Made for `pharma`, whose bodies have the
shape of a pharmacy's; `NOW` is the day on which the good ones are good."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, NamedTuple

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


class Bad(NamedTuple):
    """`problems` are pairs of a path and words of the reason, in order."""

    body: bytes
    problems: tuple[tuple[str, str], ...]
    command: str = "create_recurrent_order"


def good(command: str = "create_recurrent_order", **change: Any) -> dict[str, Any]:
    """A command that fits, but for what is changed in it; `...` takes a key out."""
    article: dict[str, Any] = {"scanCode": "5948912001188", "name": "Tabletten 500mg x 8", "quantityOrdered": 2}
    made: dict[str, Any] = {
        "orderNumber": "WEB/2026 00042#ä",
        "relatedNotes": None,
        "sendCustomerPickupMail": True,
        "customerDetails": {"fullName": "Łucja Müller-Öztürk", "email": "lucja@example.org", "country": "Deutschland"},
        "articles": [article],
    }
    if command == "create_recurrent_order":
        article["interval"] = 28
        made |= {"startDate": "2099-11-24T00:00:00", "endDate": "2099-11-25T00:00:00"}
    made |= change
    return {key: value for key, value in made.items() if value is not ...}


def articles(*changes: dict[str, Any]) -> list[dict[str, Any]]:
    """An article for each of the changes."""
    whole = {"scanCode": "1", "name": "x", "quantityOrdered": 1, "interval": 1}
    return [{key: value for key, value in (whole | change).items() if value is not ...} for change in changes]


def _bad(*problems: tuple[str, str], **change: Any) -> Bad:
    return Bad(json.dumps(good(**change)).encode(), problems)


def _raw(body: bytes, *problems: tuple[str, str]) -> Bad:
    return Bad(body, problems)


def _said(old: bytes, new: bytes, *problems: tuple[str, str]) -> Bad:
    """A good command with a piece of its text exchanged."""
    text = json.dumps(good()).encode()
    assert text.count(old) == 1
    return Bad(text.replace(old, new), problems)


A, Q, EVERY, N, S = "$.articles", "$.articles[0].quantityOrdered", "$.articles[0].interval", "$.orderNumber", "$.startDate"
WHOLE, TEXT, OBJECT = "must be a whole number", "must be a text", "must be an object"
NUMBER = b'"quantityOrdered": 2'

BAD: dict[str, Bad] = {
    # what is no JSON, or is read as two things by two readers
    "nothing": _raw(b"", ("$", "not JSON at line 1, column 1")),
    "a space": _raw(b" ", ("$", "not JSON")),
    "a word": _raw(b"order", ("$", "not JSON")),
    "XML": _raw(b"<order/>", ("$", "not JSON")),
    "cut off": _raw(b'{"orderNumber": "1", "art', ("$", "not JSON at line 1")),
    "two documents": _raw(b"{}{}", ("$", "not JSON at line 1, column 3")),
    "single quotes": _raw(b"{'orderNumber': '1'}", ("$", "not JSON")),
    "a comma too many": _raw(b'{"orderNumber": "1",}', ("$", "not JSON")),
    "Latin-1": _raw('{"orderNumber": "ä"}'.encode("latin-1"), ("$", "not UTF-8 at byte 17")),
    "UTF-16": _raw('{"orderNumber": "1"}'.encode("utf-16"), ("$", "not UTF-8 at byte 0")),
    "nested lists": _raw(b"[" * 5000 + b"]" * 5000, ("$", "nested too deeply")),
    "nested objects": _raw(b'{"a":' * 80 + b"1" + b"}" * 80, ("$", "nested too deeply")),
    "a line break in a text": _said(b"Tabletten 500mg", b"Tabletten\n500mg", ("$", "not JSON")),
    "NaN": _said(NUMBER, b'"quantityOrdered": NaN', (Q, "is NaN, which is not JSON")),
    "Infinity": _said(NUMBER, b'"quantityOrdered": -Infinity', (Q, "is -Infinity, which is not JSON")),
    "1e999": _said(NUMBER, b'"quantityOrdered": 1e999', (Q, "too long or too large")),
    "1e-999": _said(NUMBER, b'"quantityOrdered": 1e-999', (Q, "too long or too large")),
    "a hundred digits": _said(NUMBER, b'"quantityOrdered": ' + b"9" * 100, (Q, "more than 20 digits")),
    "a million digits": _said(NUMBER, b'"quantityOrdered": ' + b"9" * 100_000, (Q, "more than 20 digits")),
    "past 64 bits": _said(NUMBER, b'"quantityOrdered": 18446744073709551616', (Q, "must be at most 10000")),
    "half of a pair": _said(b"Tabletten", b"\\ud83d", ("$.articles[0].name", "half of a surrogate pair")),
    "the other half": _said(b"Tabletten", b"\\udc00", ("$.articles[0].name", "half of a surrogate pair")),
    "NUL": _said(b"Tabletten", b"\\u0000", ("$.articles[0].name", "a NUL character")),
    "NUL in a key": _said(b'"name"', b'"na\\u0000me"', ('$.articles[0]["na\\u0000me"]', "is a key with a NUL character")),
    "a key twice": _said(NUMBER, NUMBER + b", " + NUMBER, (Q, "appears twice in its object")),
    "a key twice at the top": _said(b'"orderNumber": ', b'"orderNumber": "2", "orderNumber": ', (N, "appears twice")),
    # another shape
    "a list": _raw(b"[]", ("$", OBJECT)),
    "null": _raw(b"null", ("$", OBJECT)),
    "a text": _raw(b'"order"', ("$", OBJECT)),
    "a number": _raw(b"7", ("$", OBJECT)),
    "an empty object": _raw(b"{}", (N, "is missing"), (A, "is missing"), (S, "is missing"), ("$.endDate", "is missing")),
    # keys
    "a key in the wrong case": _bad(("$.ordernumber", "did you mean orderNumber?"), ordernumber="1"),
    "a key with a typing error": _bad(("$.articels", "did you mean articles?"), (A, "is missing"), articels=articles({}), articles=...),
    "a key that nothing is like": _bad(("$.xyzzy", "is not known here; there is articles, customerDetails"), xyzzy=1),
    "a key with a space": _bad(('$["order number"]', "did you mean orderNumber?"), **{"order number": "1"}),
    "an empty key": _bad(('$[""]', "is not known here"), **{"": 1}),
    "an endless key": _bad(('$["' + "k" * 80 + '..."]', "is not known here"), **{"k" * 5000: 1}),
    "a key of an article": _bad((f"{A}[0].qty", "is not known here"), articles=articles({"qty": 1})),
    "a key of the customer": _bad(
        ("$.customerDetails.fullname", "did you mean fullName?"), customerDetails={"fullName": "A", "fullname": "A"}
    ),
    # texts
    "no order number": _bad((N, "is missing"), orderNumber=...),
    "an empty order number": _bad((N, "must have a length of at least 1"), orderNumber=""),
    "a long order number": _bad((N, "must have a length of at most 50"), orderNumber="1" * 51),
    "an order number that is a number": _bad((N, TEXT), orderNumber=42),
    "an order number that is null": _bad((N, TEXT), orderNumber=None),
    "notes that are too long": _bad(("$.relatedNotes", "must have a length of at most 200"), relatedNotes="x" * 201),
    "notes that are a list": _bad(("$.relatedNotes", TEXT), relatedNotes=["x"]),
    "an address that is none": _bad(("$.customerDetails.email", "must have the form"), customerDetails={"fullName": "A", "email": "lucja"}),
    "an unknown country": _bad(
        ("$.customerDetails.country", "must be one of Deutschland, Danmark; did you mean Danmark?"),
        customerDetails={"fullName": "A", "country": "Danmrak"},
    ),
    # yes and no
    "a word for yes": _bad(("$.sendCustomerPickupMail", "must be true or false"), sendCustomerPickupMail="yes"),
    "a one for yes": _bad(("$.sendCustomerPickupMail", "must be true or false"), sendCustomerPickupMail=1),
    "null for no": _bad(("$.sendCustomerPickupMail", "must be true or false"), sendCustomerPickupMail=None),
    # articles
    "no article": _bad((A, "must have a length of at least 1"), articles=[]),
    "too many articles": _bad((A, "must have a length of at most 100"), articles=articles(*[{}] * 101)),
    "articles that are an object": _bad((A, "must be a list"), articles={"0": {}}),
    "articles that are null": _bad((A, "must be a list"), articles=None),
    "an article that is a text": _bad((f"{A}[1]", OBJECT), articles=[*articles({}), "5948912001188"]),
    "an article without a code": _bad((f"{A}[0].scanCode", "is missing"), articles=articles({"scanCode": ...})),
    "a code that is a number": _bad((f"{A}[0].scanCode", TEXT), articles=articles({"scanCode": 5948912001188})),
    "a quantity of nothing": _bad((Q, "must be at least 1"), articles=articles({"quantityOrdered": 0})),
    "a quantity below nothing": _bad((Q, "must be at least 1"), articles=articles({"quantityOrdered": -3})),
    "too large a quantity": _bad((Q, "must be at most 10000"), articles=articles({"quantityOrdered": 10_001})),
    "half a packet": _bad((Q, WHOLE), articles=articles({"quantityOrdered": 0.5})),
    "a quantity in a text": _bad((Q, WHOLE), articles=articles({"quantityOrdered": "2"})),
    "a quantity that is true": _bad((Q, WHOLE), articles=articles({"quantityOrdered": True})),
    "no interval": _bad((EVERY, "is missing"), articles=articles({"interval": ...})),
    "an interval of nothing": _bad((EVERY, "must be at least 1"), articles=articles({"interval": 0})),
    "an interval of a hundred days": _bad((EVERY, "must be at most 99"), articles=articles({"interval": 100})),
    "every article wrong in its own way": _bad(
        (EVERY, "must be at least 1"),
        (f"{A}[1].quantityOrdered", WHOLE),
        (f"{A}[2].scanCode", "must have a length of at least 1"),
        (f"{A}[2].interval", "is missing"),
        articles=articles({"interval": 0}, {"quantityOrdered": "x"}, {"scanCode": "", "interval": ...}),
    ),
    "an interval in an order for once": Bad(
        json.dumps(good("create_order", articles=articles({}))).encode(), ((EVERY, "is not known here"),), "create_order"
    ),
    # dates
    "a date without a time": _bad((S, "must be a date with a time"), startDate="2026-11-24"),
    "a date with a zone": _bad((S, "must be a date with a time without a time zone"), startDate="2026-11-24T00:00:00Z"),
    "a date that is none": _bad((S, "must be a date with a time"), startDate="2026-02-30T00:00:00"),
    "a date as a number": _bad((S, "must be a date with a time"), startDate=20261124),
    "yesterday": _bad((S, "is before today"), startDate="2020-11-23T23:59:59"),
    "an end today": _bad(
        (S, "is before today"),
        ("$.endDate", "must be tomorrow at the earliest"),
        startDate="2020-01-01T00:00:00",
        endDate="2020-01-01T00:00:00",
    ),
    "a bit of everything": _bad(
        ("$.note", "is not known here"),
        (N, TEXT),
        ("$.customerDetails", OBJECT),
        (Q, "must be at least 1"),
        ("$.endDate", "is missing"),
        note="x",
        orderNumber=1,
        customerDetails="Max",
        articles=articles({"quantityOrdered": 0}),
        endDate=...,
    ),
}

"""The sample comparison of the suite for connector authors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.testing import check_connector, load_samples
from tests import acme


@pytest.mark.parametrize(
    ("order", "wrong"),
    [
        ({}, []),
        ({"order_number": "A-1", "total": "1.50", "customer": {}, "lines": [{"line_number": 1}], "extra": {}}, []),
        ({"total": "1.5"}, ["total is '1.50', expected '1.5'"]),
        ({"customer": {"number": "7"}}, ["customer.number is None, expected '7'"]),
        ({"lines": [{"quantity": "1", "unit_price": "2"}]}, ["lines[0].unit_price is '1.50', expected '2'"]),
        ({"lines": []}, None),
        ({"lines": [{}, {}]}, None),
        ({"extra": {"x": None}}, ["extra is {}, expected {'x': None}"]),
        ({"lines": [{"sku": "A-1"}]}, ["lines[0].sku is no field of an order"]),
    ],
)
def test_a_sample_compares_the_fields_that_it_names(tmp_path: Path, order: dict[str, Any], wrong: list[str] | None) -> None:
    (tmp_path / "01.json").write_bytes(acme.body("A-1"))
    (tmp_path / "01.order.json").write_bytes(msgspec.json.encode(order))
    found = check_connector(acme, acme.Settings(), load_samples(tmp_path))
    assert found == [f"01: {text}" for text in wrong] if wrong is not None else found[0].startswith("01: lines is ")

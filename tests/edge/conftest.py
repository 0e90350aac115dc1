"""Every test starts with a `hubby` that works."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests import hub_connector


@pytest.fixture(autouse=True)
def no_hub_faults() -> Iterator[None]:
    hub_connector.faults.clear()
    yield
    hub_connector.faults.clear()

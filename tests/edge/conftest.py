"""Every test starts with a `hubby` that works."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests import hubby


@pytest.fixture(autouse=True)
def no_hub_faults() -> Iterator[None]:
    hubby.faults.clear()
    yield
    hubby.faults.clear()

"""Seed of every random choice in the tests: printed by each run, the same in all workers, and set by TEST_SEED."""

from __future__ import annotations

import os
import time

SEED = int(os.environ.setdefault("TEST_SEED", str(time.time_ns() % 10**6)))

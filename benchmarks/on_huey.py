"""The same on huey with SQLite: the door enqueues before it answers, a worker process takes tasks and posts them.

`fsync=True` is `synchronous=FULL`, which huey does not ask for by itself. A task is deleted before it runs, so an order is lost where the
worker dies at the wrong moment; the gateway and the other alternatives keep it. The worker looks for tasks every 20 ms instead of
huey's up to 10 s, with four threads. Enqueueing has a thread of its own, so that the door's event loop is not held up by the disk.
"""

from __future__ import annotations

import asyncio
import http.client
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

from huey import SqliteHuey

from benchmarks.alternative import Options, door, options, serve

_THREADS = 4
_LOOK_S = 0.02
_RETRIES = 1_000_000
_RETRY_S = 1


class Sender:
    """Posts to the ERP, over one connection for each thread."""

    def __init__(self, erp: str) -> None:
        self._place = urlsplit(erp)
        self._kept = threading.local()

    def __call__(self, name: str, body: bytes) -> None:
        """Give the ERP one order; raises where it does not take it, and huey tries again."""
        if not hasattr(self._kept, "connection"):
            self._kept.connection = http.client.HTTPConnection(self._place.netloc, timeout=30)
        connection: http.client.HTTPConnection = self._kept.connection
        try:
            connection.request("POST", self._place.path, body, {"Content-Type": "application/json", "Idempotency-Key": name})
            answer = connection.getresponse()
            answer.read()
        except OSError:
            connection.close()
            raise
        if answer.status >= 300:
            raise RuntimeError(f"the ERP answered {answer.status}")


async def run(given: Options, queue: SqliteHuey, task: Callable[[str, bytes], object]) -> None:
    """Serve the door."""
    enqueueing = ThreadPoolExecutor(1)

    async def keep(name: str, body: bytes) -> None:
        await asyncio.get_running_loop().run_in_executor(enqueueing, task, name, body)

    facts = {name: queue.storage.sql(f"PRAGMA {name}", results=True)[0][0] for name in ("synchronous", "journal_mode")}
    await serve(door(given.header, keep), **facts)


def main() -> None:
    """The door, or with --worker the process that delivers."""
    given = options(__doc__)
    queue = SqliteHuey("orders", filename=str(given.data / "huey.db"), fsync=True)
    task = queue.task(retries=_RETRIES, retry_delay=_RETRY_S, name="forward")(Sender(given.erp).__call__)
    if given.worker:
        queue.create_consumer(workers=_THREADS, initial_delay=_LOOK_S, backoff=1.0001, max_delay=_LOOK_S, periodic=False).run()
    else:
        asyncio.run(run(given, queue, task))


if __name__ == "__main__":
    main()

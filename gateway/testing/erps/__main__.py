"""Run one simulator by itself: `python -m gateway.testing.erps odoo19 --listen 127.0.0.1:9090`."""

import argparse
import asyncio
import contextlib

from gateway.testing.erps import ERPS


async def _serve(name: str, host: str, port: int) -> None:
    erp = ERPS[name]()
    await erp.start(host, port)
    print(f"simulated {erp.title} at {erp.address}")
    print(f"customers {', '.join(erp.customers)}; articles {', '.join(erp.articles)}")
    for method, path, operation, _ in erp.routes():
        print(f"  {method} {path}  ({operation})", flush=True)
    seen = 0
    while True:
        await asyncio.sleep(0.2)
        for asked in erp.asked[seen:]:
            print(f"{asked.operation}: {asked.method} {asked.path} -> {asked.status}; it holds {len(erp.made)} orders", flush=True)
        seen = len(erp.asked)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m gateway.testing.erps", description="A simulated ERP.")
    parser.add_argument("erp", choices=sorted(ERPS))
    parser.add_argument("--listen", default="127.0.0.1:9090", metavar="ADDRESS:PORT")
    options = parser.parse_args()
    host, _, port = options.listen.rpartition(":")
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(options.erp, host, int(port)))


main()

"""`python -m benchmarks`: measure, print, write JSON.

Exit codes: 0 measured, 1 something was lost, doubled or refused, 2 no disk for --large, 3 with --strict an aim was missed.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks import cloned, earlier, machine, profiling, report, vendor
from benchmarks.contestants import Gateway
from benchmarks.rounds import Ground, Wrong
from benchmarks.scenarios import FULL, QUICK, TINY, Course, large

SECTIONS = {
    "accept": Course.accept,
    "end-to-end": Course.through,
    "alternatives": Course.alternatives,
    "backlog": Course.waiting,
    "footprint": Course.footprint,
    "latency": Course.paced,
    "burst": Course.burst,
    "mapping": Course.mapping,
    "growth": Course.growth,
}


def main(arguments: Sequence[str]) -> int:
    """Run it; the exit code."""
    options = _options(arguments)
    size = TINY if options.tiny else QUICK if options.quick else FULL
    if options.large:
        size = large(size)
        options.only = options.only or ["backlog", "footprint"]
        folder = options.data_dir or Path(tempfile.gettempdir())
        free, needed = shutil.disk_usage(folder).free, cloned.needed_bytes(size.waiting, size.delivered)
        print(f"{'disk':12} {needed / 1e9:.1f} GB needed in {folder}, {free / 1e9:.1f} GB free", flush=True)
        if free < needed:
            return 2
    began = time.monotonic()
    before = earlier.newest(report.RESULTS)
    with tempfile.TemporaryDirectory(prefix="gateway-bench-", dir=options.data_dir) as name:
        folder = Path(name)
        chosen = vendor.choose(folder / "vendor", options.connector)
        with Ground(chosen, options.connections, size.patience_s) as ground:
            try:
                with Gateway("settings", folder / "settings", chosen, erp=ground.erp_url) as gateway:
                    facts = machine.describe(folder) | {"connector": chosen.connector} | machine.store_settings(gateway)
                report.show_machine(facts | ({"compared": f"with {before.at}, commit {before.commit}"} if before else {}))
                if options.profile:
                    profiling.show(ground, folder, size)
                    return 0
                course, sections = Course(ground, folder, size), []
                for section in options.only or SECTIONS:
                    sections.append(SECTIONS[section](course))
                    report.show(sections[-1], before)
            except Wrong as error:
                print(f"\nWRONG: {error}", file=sys.stderr)
                return 1
    path = report.save(facts, sections, arguments=arguments, path=options.output, dated=options.save)
    print(f"\n{time.monotonic() - began:.0f} s; {path}")
    return 3 if options.strict and not all(verdict.met for section in sections for verdict in section.verdicts) else 0


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure the gateway, as ratios within one run.")
    much = parser.add_mutually_exclusive_group()
    much.add_argument("--quick", action="store_true", help="fewer orders and rounds: about a minute")
    much.add_argument("--tiny", action="store_true", help="a few hundred orders: whether everything arrives; the figures mean nothing")
    parser.add_argument(
        "--large",
        action="store_true",
        help="ten times as many waiting orders, 1,000,000, and ten times as many again delivered: backlog, footprint",
    )
    parser.add_argument(
        "--only", action="append", choices=list(SECTIONS), metavar="SECTION", help=f"one of {', '.join(SECTIONS)}; repeatable"
    )
    parser.add_argument("--connections", type=int, default=32, help="open at the same time, to a contestant and to the ERP (default 32)")
    parser.add_argument("--connector", choices=["apicbase", "acme"], help="default: apicbase where it is there")
    parser.add_argument("--data-dir", type=Path, help="where the databases go; default: the folder for temporary files")
    parser.add_argument("--profile", action="store_true", help="instead: where the time goes, by py-spy if it is installed, else cProfile")
    parser.add_argument("--save", action="store_true", help="also write results/DATE-COMMIT.json, to keep")
    parser.add_argument("--output", type=Path, default=report.LATEST, help="where the JSON goes (default results/latest.json)")
    parser.add_argument("--strict", action="store_true", help="exit with 3 where an aim is missed")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Where the time goes: samples of the running gateway by py-spy (or cProfile of its loop), and its statements, counted."""

from __future__ import annotations

import json
import pstats
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.contestants import Gateway
from benchmarks.rounds import WARM, Ground, Round
from benchmarks.scenarios import Size

SAMPLED_S = 8
TOP = 25


def show(ground: Ground, folder: Path, size: Size) -> None:
    """Print a profile of accepting alone and of the whole way."""
    spy = shutil.which("py-spy", path=str(Path(sys.executable).parent)) or shutil.which("py-spy")
    for name, go in (("accept", ground.answered), ("end-to-end", ground.through)):
        count = size.accept if name == "accept" else size.through
        _statements(ground, folder / f"counted-{name}", name, go, count)
        if spy:
            for kind in ("on a processor", "holding the interpreter lock"):
                _sampled(ground, folder / f"sampled-{name}", f"{name}, {kind}", go, count, spy, gil=kind.startswith("holding"))
        else:
            _traced(ground, folder / f"traced-{name}", name, go, count)


def _statements(ground: Ground, folder: Path, name: str, go: Callable[[Gateway, int], Round], count: int) -> None:
    out = folder.with_suffix(".json")
    with _made(ground, folder, ("-m", "benchmarks.counted", str(out))) as gateway:
        _begin(ground, gateway, name)
        measured = go(gateway, count)
        gateway.stop()
    found: dict[str, list[float]] = json.loads(out.read_text())
    count += WARM
    print(f"\n{name}: statements for each order; {measured.each['commits']:.3f} commits for each order")
    for sql, (times, seconds) in sorted(found.items(), key=lambda item: -item[1][1])[:TOP]:
        if times > count / 1000:
            print(f"  {times / count:7.3f}  {seconds / times * 1e6:7.1f} us  {seconds / count * 1e6:7.1f} us an order  {sql[:100]}")
    print(f"  {sum(times for times, _ in found.values()) / count:7.3f}  statements in all")


def _sampled(ground: Ground, folder: Path, name: str, go: Callable[[Gateway, int], Round], count: int, spy: str, *, gil: bool) -> None:
    out = folder.with_suffix(".raw")
    with _made(ground, folder) as gateway:
        _begin(ground, gateway, name)
        arguments = [spy, "record", "--pid", str(gateway.child.pid), "--rate", "500", "--duration", str(SAMPLED_S), "--format", "raw"]
        arguments += ["--threads", "--function", "--output", str(out), *(["--gil"] if gil else [])]
        recording = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        began = time.monotonic()
        while time.monotonic() < began + SAMPLED_S:
            go(gateway, count)
        recording.wait(60)
        gateway.stop()
    _print_samples(name, out.read_text().splitlines())


def _print_samples(name: str, lines: Sequence[str]) -> None:
    threads, itself, within = Counter[str](), Counter[str](), Counter[str]()
    for line in lines:
        stack, _, times = line.rpartition(" ")
        thread, *frames = stack.split(";")
        thread = "writer" if "store-writer" in thread else "loop" if "MainThread" in thread else "other"
        threads[thread] += int(times)
        if frames:
            itself[f"{thread:6} {_short(frames[-1])}"] += int(times)
        for frame in set(frames):
            within[f"{thread:6} {_short(frame)}"] += int(times)
    total = max(1, sum(threads.values()))
    print(f"\n{name}: " + ", ".join(f"{thread} {100 * times / total:.0f} %" for thread, times in threads.most_common()))
    print("   itself                                                       with what it calls")
    for (one, n), (other, m) in zip(itself.most_common(TOP), within.most_common(2 * TOP)[:TOP], strict=False):
        print(f"  {100 * n / total:5.1f} % {one[:52]:52}  {100 * m / total:5.1f} % {other[:60]}")


def _short(frame: str) -> str:
    name, _, place = frame.partition(" (")
    return f"{name} {'/'.join(place.rstrip(')').split('/')[-2:])}"


def _traced(ground: Ground, folder: Path, name: str, go: Callable[[Gateway, int], Round], count: int) -> None:
    out = folder.with_suffix(".pstats")
    with _made(ground, folder, ("-m", "cProfile", "-o", str(out), "-m", "gateway.cli.main")) as gateway:
        _begin(ground, gateway, name)
        go(gateway, count)
        gateway.stop()
    print(f"\n{name}: the loop thread by cProfile; py-spy is not installed, and would show the writing thread too")
    pstats.Stats(str(out)).sort_stats("tottime").print_stats(TOP)


def _begin(ground: Ground, gateway: Gateway, name: str) -> None:
    gateway.start()
    ground.warm(gateway)
    if name.startswith("accept"):
        gateway.target("hold")


def _made(ground: Ground, folder: Path, launch: Sequence[str] = ("-m", "gateway.cli.main")) -> Gateway:
    shutil.rmtree(folder, ignore_errors=True)
    return Gateway("profiled", folder, ground.vendor, erp=ground.erp_url, concurrency=ground.connections, launch=launch)

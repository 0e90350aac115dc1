"""`make fuzz ARGS="--runs 2000000 --seed 7 --only apicbase.poll"`: each parser and verifier on bytes that atheris finds by itself.

Each target has a process of its own, `--jobs` at a time, that begins with its corpus and with whatever was found before. A byte
string that makes something undocumented escape is kept in `tests/harness/fuzz/found/TARGET/`, where the suite replays it. Exit code: 0
where nothing was found, 1 where something was, 2 where atheris is not there.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import random
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from msgspec import Struct

FOUND = Path(__file__).parent / "found"
INSTALL = (
    "make fuzz needs atheris, which is not among the project's packages, since it has wheels for x86-64 Linux only and 35 MB: "
    f'{sys.executable} -m pip install --only-binary :all: "atheris>=3"'
)
VENDORS = ("apicbase", "scalepoint", "supercat", "pickup_cloud")
_LONGEST = 4096
_HANGS_S = 20


class Ended(Struct):
    """How one target's process ended."""

    name: str
    runs: int
    seconds: float
    edges: int
    problem: str


def main() -> int:
    """Fuzz; the exit code."""
    options = _options()
    if options.inside:
        return _inside(options.inside, options.runs, options.seed, options.seconds)
    if importlib.util.find_spec("atheris") is None:
        print(INSTALL)
        return 2
    from . import command_api, core, vendors  # noqa: F401 - they register the targets
    from .target import TARGETS

    names = [name for name in TARGETS if not options.only or name in options.only]
    if unknown := set(options.only or ()) - set(names):
        print(f"there is no target {', '.join(sorted(unknown))}; there is {', '.join(TARGETS)}")
        return 2
    print(f"seed {options.seed}, {options.runs} runs for each of {len(names)} targets", flush=True)
    with ThreadPoolExecutor(options.jobs) as pool:
        ends = list(pool.map(lambda name: _outside(name, options), names))
    runs, bad = sum(end.runs for end in ends), [end for end in ends if end.problem]
    print(f"{runs} runs, {len(bad)} of {len(ends)} targets with a finding; seed {options.seed}")
    return 1 if bad else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.harness.fuzz", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--runs", type=int, default=100_000, help="for each target; default 100000")
    parser.add_argument("--seconds", type=int, default=0, help="for each target at the most; default: as long as it takes")
    parser.add_argument("--seed", type=int, default=random.randrange(1, 2**31))
    parser.add_argument("--only", nargs="*", metavar="TARGET")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    return parser.parse_args()


def _outside(name: str, options: argparse.Namespace) -> Ended:
    """One target in a process of its own."""
    began = time.monotonic()
    more = ["--inside", name, "--runs", str(options.runs), "--seed", str(options.seed), "--seconds", str(options.seconds)]
    done = subprocess.run([sys.executable, "-m", "tests.harness.fuzz", *more], capture_output=True, text=True, errors="replace")
    said = done.stdout + done.stderr
    counts = [int(n) for n in re.findall(r"^#(\d+)\s", said, re.MULTILINE)] + [
        int(n) for n in re.findall(r"^Done (\d+) runs", said, re.MULTILINE)
    ]
    edges = [int(n) for n in re.findall(r"\bcov: (\d+)", said)]
    problem = "" if done.returncode == 0 else _problem(said)
    end = Ended(name, max(counts, default=0), time.monotonic() - began, max(edges, default=0), problem)
    print(f"{name:24} {end.runs:>10} runs {end.seconds:7.0f} s {end.edges:>6} edges  {problem or 'nothing'}", flush=True)
    return end


def _problem(said: str) -> str:
    """What escaped, on one line; without any sign of it, the last lines of the process."""
    raised = re.search(r"=== Uncaught Python exception: ===\s*(.*)", said)
    return raised[1][:200] if raised else " | ".join(said.strip().splitlines()[-3:])[:300]


def _inside(name: str, runs: int, seed: int, seconds: int) -> int:
    """Fuzz one target; libFuzzer ends the process."""
    import atheris

    with atheris.instrument_imports(
        include=["gateway", "gateway_apicbase", "gateway_scalepoint", "gateway_supercat", "gateway_pickup_cloud"]
    ):
        from . import command_api, core, vendors  # noqa: F401 - they register the targets
        from .target import TARGETS

    target = TARGETS[name]

    def feed(data: bytes) -> None:
        try:
            target.feed(data)
        except BaseException:
            (FOUND / name).mkdir(parents=True, exist_ok=True)
            (FOUND / name / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
            raise

    with tempfile.TemporaryDirectory(prefix="corpus-") as folder:
        for data in [*target.corpus(), *(file.read_bytes() for file in (FOUND / name).glob("*"))]:
            (Path(folder) / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
        limits = [f"-runs={runs}", f"-seed={seed}", f"-max_len={_LONGEST}", f"-timeout={_HANGS_S}", "-rss_limit_mb=2048"]
        limits += [f"-max_total_time={seconds}"] if seconds else []
        atheris.Setup([sys.argv[0], *limits, f"-artifact_prefix={folder}/", folder], feed)
        atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())

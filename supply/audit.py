"""Whether a lock holds a version that an advisory is about: `make audit`.

    python supply/audit.py [--lock FILE] [--advisories FILE_OR_URL]

Asks OSV for every pin of the lock in one request. Where that cannot be reached, and only if somebody says so, a file of advisories
is asked in its place: `supply/advisories.json`, which is short and dated, or a newer one in the same form (OSV's records in a list).

Exit codes: 0 nothing is known, 1 something is, 2 it could not be found out. What could not be looked up counts as not found out.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, NamedTuple

from packaging.version import InvalidVersion, Version

HERE = Path(__file__).parent
LOCKS = (HERE.parent / "requirements.lock", HERE.parent / "requirements-install.lock")
OFFLINE = HERE / "advisories.json"
OSV = "https://api.osv.dev/v1/querybatch"
_TIMEOUT_S = 60
_OLD_DAYS = 30
_PIN = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)==(?P<version>[^\s;\\]+)")
_ECOSYSTEM = "PyPI"


class Pin(NamedTuple):
    """One version of one package."""

    name: str
    version: str


class CannotTell(Exception):
    """It could not be found out; the text says why, and what to do."""


def pins(lock: Path) -> list[Pin]:
    """Every package of a lock, with the name in its normal form. Raises CannotTell for a line that pins nothing."""
    found = []
    for n, line in enumerate(lock.read_text("utf-8").splitlines(), 1):
        if not line.strip() or line.lstrip() != line or line.startswith(("#", "--hash")):
            continue
        pin = _PIN.match(line)
        if pin is None:
            raise CannotTell(f"{lock.name}:{n}: pins no version, so nothing can be said of it; renew the lock (CONTRIBUTING.md)")
        found.append(Pin(normal(pin["name"]), pin["version"]))
    if not found:
        raise CannotTell(f"{lock.name}: holds no package")
    return found


def normal(name: str) -> str:
    """A package's name as the index spells it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def ask(url: str, wanted: Sequence[Pin]) -> dict[Pin, list[str]]:
    """The ids of advisories about each pin, by OSV. Raises CannotTell."""
    queries = [{"package": {"name": pin.name, "ecosystem": _ECOSYSTEM}, "version": pin.version} for pin in wanted]
    request = urllib.request.Request(url, json.dumps({"queries": queries}).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:
            results = json.load(answer)["results"]
        if len(results) != len(wanted):
            raise CannotTell(f"{url} answers for {len(results)} of {len(wanted)} packages")
        found = {pin: [str(one["id"]) for one in result.get("vulns", ())] for pin, result in zip(wanted, results, strict=True)}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CannotTell(
            f"{url} cannot be asked ({error}). Run this where it can be reached, or with a list of advisories that you have: "
            f'make audit ARGS="--advisories FILE_OR_URL". {OFFLINE.name} beside this program is such a list, of {written(OFFLINE)}'
        ) from error
    return {pin: ids for pin, ids in found.items() if ids}


def compare(source: str, wanted: Sequence[Pin]) -> dict[Pin, list[str]]:
    """The same by a list of advisories. Raises CannotTell."""
    try:
        listed = json.loads(_content(source))
        known = [
            (normal(about["package"]["name"]), about, str(record["id"])) for record in listed["advisories"] for about in _about(record)
        ]
        return {pin: ids for pin in wanted if (ids := sorted({id for name, about, id in known if name == pin.name and _hits(pin, about)}))}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CannotTell(f"{source} is no list of advisories as {OFFLINE.name} is: {type(error).__name__}: {error}") from error


def written(source: str | Path) -> str:
    """The date of a list."""
    try:
        return str(date.fromisoformat(json.loads(_content(str(source)))["written"]))
    except (OSError, ValueError, KeyError, TypeError):
        return "an unknown date"


def _content(source: str) -> bytes:
    if "://" not in source:
        return Path(source).read_bytes()
    if not source.startswith(("https://", "http://127.0.0.1:")):
        raise ValueError("an address must be https://")
    with urllib.request.urlopen(source, timeout=_TIMEOUT_S) as answer:
        data: bytes = answer.read()
        return data


def _about(record: dict[str, Any]) -> Iterator[dict[str, Any]]:
    return (one for one in record["affected"] if one["package"]["ecosystem"] == _ECOSYSTEM) if "withdrawn" not in record else iter(())


def _hits(pin: Pin, about: dict[str, Any]) -> bool:
    """Whether a version is among those that an advisory is about."""
    if pin.version in about.get("versions", ()):
        return True
    version = Version(pin.version)
    for spans in about.get("ranges", ()):
        if spans["type"] != "ECOSYSTEM":
            continue
        hit = False
        for event in spans["events"]:  # in order: from `introduced` on, up to `fixed`
            (kind, at), *_ = event.items()
            bound = Version("0a0.dev0" if at == "0" else at)
            if kind == "introduced" and version >= bound:
                hit = True
            elif (kind == "fixed" and version >= bound) or (kind == "last_affected" and version > bound):
                hit = False
        if hit:
            return True
    return False


def audit(locks: Sequence[Path], advisories: str | None, url: str = OSV) -> int:
    """Look up every package of the locks, and say what is known; the exit code."""
    try:
        wanted = sorted({pin for lock in locks for pin in pins(lock)})
        found = ask(url, wanted) if advisories is None else compare(advisories, wanted)
    except (CannotTell, OSError, InvalidVersion) as error:
        print(f"audit: {error}", file=sys.stderr)
        return 2
    for pin, ids in found.items():
        print(f"{pin.name} {pin.version}: {', '.join(ids)}")
    source = "OSV" if advisories is None else f"{advisories}, of {written(advisories)}"
    print(f"{len(wanted)} packages looked up in {source}: {len(found) or 'none'} with a known advisory")
    if advisories is not None:
        _warn_of_age(advisories)
    return 1 if found else 0


def _warn_of_age(advisories: str) -> None:
    age = written(advisories)
    days = (datetime.now(UTC).date() - date.fromisoformat(age)).days if age[0].isdigit() else None
    if days is None or days > _OLD_DAYS:
        print(
            f"WARNING: this list is {'of an unknown date' if days is None else f'{days} days old'}; what was published since is not in it"
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="make audit", description="Check the locks against known advisories.")
    parser.add_argument("--lock", type=Path, action="append", help="in place of the two locks of this project")
    parser.add_argument(
        "--advisories", metavar="FILE_OR_URL", help=f"ask this list and nobody else, as in {OFFLINE.relative_to(HERE.parent)}"
    )
    options = parser.parse_args(arguments)
    return audit(options.lock or LOCKS, options.advisories)


if __name__ == "__main__":
    sys.exit(main())

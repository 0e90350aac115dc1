"""What the gateway owes its senders, in as few words as possible; the machine compares the real engine with it."""

from __future__ import annotations

from typing import NamedTuple


class Reference:
    """Versions of orders by what was accepted, and which of them a person, or a sender's answer, ended.

    A version is owed until the ERP has taken it, `ended` has it, or, under `replace`, a later one is owed in its place.
    """

    def __init__(self) -> None:
        self.versions: dict[str, list[int]] = {}
        self.newest: dict[str, int | None] = {}
        self.ended: set[tuple[str, int]] = set()
        self.told: set[tuple[str, int]] = set()
        self.earlier: dict[str, list[int]] = {}

    def accept(self, ref: str, content: int) -> tuple[str, str]:
        """What the store must answer: a repeat is what has the newest version's content, or what is kept as an earlier one."""
        versions = self.versions.setdefault(ref, [])
        had = max((n for n, one in enumerate(versions, 1) if one == content), default=None)
        stands = max((n for n in range(1, len(versions) + 1) if (ref, n) not in self.told), default=0)
        if self.newest.get(ref) == content:
            return _key(ref, len(versions)), "repeat"
        if had is not None and had == stands:
            return _key(ref, had), "repeat"
        if had is not None and had < stands:
            earlier = self.earlier.setdefault(ref, [])
            new = content not in earlier
            if new:
                earlier.append(content)
            return f"{ref}@earlier-{earlier.index(content) + 1}", "stored" if new else "repeat"
        versions.append(content)
        self.newest[ref] = content
        return _key(ref, len(versions)), "stored"

    def end(self, ref: str, version: int, *, told: bool = False) -> None:
        """A person dropped it; or its sender was `told` that it is refused, and what comes next is no repeat of it."""
        self.ended.add((ref, version))
        if told:
            self.told.add((ref, version))
            if version == len(self.versions[ref]):
                self.newest[ref] = None

    def owed(self) -> list[tuple[str, int, int]]:
        """Order, version and content of everything that nobody has ended."""
        return [(r, n, c) for r, all_ in self.versions.items() for n, c in enumerate(all_, 1) if (r, n) not in self.ended]


def _key(ref: str, version: int) -> str:
    return ref if version == 1 else f"{ref}@{version}"


class Said(NamedTuple):
    """What a caller submitted under a key; two that say the same are equal."""

    command: str
    number: str
    qty: int


class Commands:
    """What the gateway owes a caller: each command is done once, or refused, or a person has ended it."""

    def __init__(self) -> None:
        self.keys: dict[str, str] = {}
        self.said: dict[str, Said] = {}
        self.dropped: set[str] = set()

    def submit_command(self, key: str, said: Said, refused: set[str]) -> tuple[str, str | None]:
        """What the door must answer, and about which submission; `refused` are dead, and stand in nobody's way."""
        if (id_ := self.keys.get(key)) is not None:
            return ("repeat" if self.said[id_] == said else "conflict"), id_
        for id_, other in self.said.items():
            if said.command == other.command == "create_order" and said.number == other.number and id_ not in refused | self.dropped:
                return "taken", id_
        return "stored", None

    def stored(self, key: str, said: Said, id_: str) -> None:
        self.keys[key], self.said[id_] = id_, said

    def forget(self, id_: str) -> None:
        """It has ended so long ago that its key is another command's."""
        del self.said[id_]
        self.keys = {key: one for key, one in self.keys.items() if one != id_}

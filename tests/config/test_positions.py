"""The line that a message names is the line where the key stands, whatever the file looks like."""

from __future__ import annotations

import json
import random
import tomllib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.config.positions import NotToml, key_lines, read
from gateway.config.report import KeyPath

_BARE = "abcdefgXYZ0129_-"
_ANY = _BARE + " .=#[]{},'\"\\ß漢\U0001f600\u00a0"
_SCALARS = (
    *("0", "-17", "+1_000", "0xdead_BEEF", "1.5", "-2e-3", "6.26e+10", "inf", "nan", "true", "false"),
    *("1979-05-27T07:32:00Z", "1979-05-27 07:32:00.25-07:00", "1979-05-27T07:32:00", "1979-05-27", "07:32:00"),
    *('"# not a comment"', '"[not.a.table]"', "'a = 1'", '"\\""', "'\\'", '""', "''", '"}"', "']'", '"\\u0022"', '"é = 1"'),
    *('"""\nx = 1\n[y]\n"""', "'''\n# no\n'''", '"""a""""', '"""a"""""', '"""""""', "'''''''", '"""\\\n   z \\""" """'),
    *("''''a''''", '""""""', "''''''"),
)


class Written:
    """A TOML text being written, and where each key was put."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.one_of = self.random.choice
        self.text = ""
        self.places: dict[KeyPath, int] = {}

    @property
    def line(self) -> int:
        return self.text.count("\n") + 1

    def blank(self) -> str:
        return self.one_of(["", "", " ", "\t"])

    def end_line(self) -> None:
        self.text += self.one_of(["\n", "\n", " # a = 1\n", "\n\n", "\n# [x]\n", "\n\t# 'quote\n"])

    def key(self, name: str) -> str:
        bare = name and all(c in "abcdefgXYZ0129_-" for c in name)
        forms = [json.dumps(name, ensure_ascii=self.coin()) if name.isascii() else json.dumps(name, ensure_ascii=False)]
        forms += [name] * 3 if bare else []
        forms += [f"'{name}'"] if "'" not in name else []
        return str(self.one_of(forms))

    def path(self, names: KeyPath) -> str:
        return (self.blank() + "." + self.blank()).join(self.key(str(name)) for name in names)

    def pair(self, above: KeyPath, names: KeyPath, depth: int) -> None:
        self.places[above + names] = self.line
        self.text += self.path(names) + self.blank() + "=" + self.blank()
        self.value(above + names, depth)

    def value(self, at: KeyPath, depth: int) -> None:
        kind = self.one_of(["scalar", "scalar", "array", "table"] if depth else ["scalar"])
        if kind == "array":
            self.array(at, depth)
        elif kind == "table":
            self.text += "{"
            for n, name in enumerate(self.names()):
                self.text += ", " if n else " "
                self.pair(at, (name,), depth - 1)
            self.text += " }"
        else:
            self.text += self.one_of(_SCALARS)

    def array(self, at: KeyPath, depth: int) -> None:
        self.text += "["
        for n in range(self.random.randrange(4)):
            self.text += "," if n else ""
            self.text += self.one_of([" ", "\n", "\n  # ], \n", "\n\n\t"])
            self.places[(*at, n)] = self.line
            self.value((*at, n), depth - 1)
        self.text += self.one_of(["]", " ]", "\n]", " # ]\n]"])

    def coin(self) -> bool:
        return self.random.random() < 0.5

    def name(self, letters: str) -> str:
        return "".join(self.random.choices(letters, k=self.random.randrange(letters == _BARE, 6)))

    def names(self) -> list[str]:
        """Up to three keys; none begins with the T of tables' names."""
        return list({self.name(self.one_of([_BARE, _BARE, _ANY])): None for _ in range(self.random.randrange(4))})

    def table(self, at: KeyPath, depth: int) -> None:
        """The keys of a table whose header stands, then the tables below it."""
        names = self.names()
        for name in names:
            dotted = self.coin()
            self.pair(at, (name, *(self.name(_BARE) for _ in range(self.random.randrange(1, 3)))) if dotted else (name,), depth)
            self.end_line()
        below = [f"T{name}" for name in self.names()] if depth else []
        for name in below:
            here, headers = (*at, name), tuple(part for part in (*at, name) if isinstance(part, str))
            if self.coin():
                self.places[here] = self.line
                self.text += f"[{self.blank()}{self.path(headers)}{self.blank()}]"
                self.end_line()
                self.table(here, depth - 1)
            else:
                for n in range(self.random.randrange(1, 4)):
                    self.places[(*here, n)] = self.line
                    self.text += f"[[{self.path(headers)}]]"
                    self.end_line()
                    self.table((*here, n), depth - 1)


@settings(max_examples=500, deadline=None)
@given(st.integers(0, 2**64))
def test_every_key_is_found_on_its_line(seed: int) -> None:
    written = Written(seed)
    written.table((), 3)
    tree = tomllib.loads(written.text)
    found = key_lines(written.text)
    assert {path: found.get(path) for path in written.places} == written.places, written.text
    assert set(_paths(tree)) <= set(found), written.text


def _paths(value: Any, at: KeyPath = ()) -> list[KeyPath]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path for key, item in items for path in [(*at, key), *_paths(item, (*at, key))]]


def test_a_table_that_is_only_implied_is_found_at_its_first_mention() -> None:
    text = "[sources.acme.settings]\nx.y = 1\nx.z = 2\n[sources]\n"
    found = key_lines(text)
    assert found["sources", "acme"] == 1
    assert found["sources", "acme", "settings", "x"] == 2
    assert found["sources",] == 4


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("a = 1\nb = x\n", 2, "a text needs quotes"),
        ("a = 1\n\na = 2\n", 3, "this key appears twice"),
        ("[a]\nx = 1\n[b]\n[a]\n", 4, "this table appears twice"),
        ('a = 1\nb = "x\nc = 2\n', 2, "a quote is missing"),
        ('a = """x\n\n\n', 1, "a quote is missing"),
        ("a = [1,\n2\n", 2, "a ] is missing"),
        ("[a\n", 1, "a ] is missing"),
        ('a = "C:\\path"\n', 1, "is written"),
        ("a 1\n", 1, "key = value"),
        ("a = 1 b = 2\n", 1, "on each line"),
        ("a = { x = 1\n}\n", 1, "a } is missing"),
        ("x = " + "9" * 5000, 1, "too long"),
        ("x = " + "[" * 5000, 1, "too deeply"),
    ],
)
def test_what_is_not_toml_is_said_with_line_and_advice(text: str, line: int, said: str) -> None:
    with pytest.raises(NotToml) as caught:
        read(text)
    assert said in str(caught.value)
    assert caught.value.line == line

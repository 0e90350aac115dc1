"""Secrets and lists outside the configuration, read by reference and again when their file changes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

_KINDS = ("env", "file", "credential")
_Stamp = tuple[int, int, int, int]


class FileBacked:
    """Text by reference: `{ env = "NAME" }`, `{ file = "/path" }` or `{ credential = "name" }`."""

    __slots__ = ("_complaint", "_path", "_refused", "_stamp", "_text", "origin")

    def __init__(self, text: str, *, origin: str, path: Path | None = None, stamp: _Stamp | None = None) -> None:
        self._text = text
        self._path = path
        self._stamp = stamp
        self._refused: _Stamp | None = None
        self._complaint: str | None = None
        self.origin = origin

    @classmethod
    def from_reference(cls, value: object, base: Path) -> FileBacked:
        """Read the text that a reference names; relative paths are relative to `base`.

        Raises:
            ValueError: No reference, or a reference to nothing. The error says what to write instead.
        """
        if not isinstance(value, Mapping) or len(value) != 1 or next(iter(value)) not in _KINDS:
            raise ValueError(f"must be a reference: {cls._example()}")
        kind, name = next(iter(value.items()))
        if not isinstance(name, str) or not name:
            raise ValueError(f"{kind} must be a name: {cls._example()}")
        if kind == "env":
            if name not in os.environ:
                raise ValueError(f"the environment has no variable {name}")
            return cls(cls.trimmed(os.environ[name]), origin=f"env {name}")
        path = _credential(name, base) if kind == "credential" else base / name
        stamp = stamp_of(path)
        return cls(cls.trimmed(read_text(path)), origin=f"{kind} {name}", path=path, stamp=stamp)

    @staticmethod
    def _example() -> str:
        return '{ env = "NAME" }, { file = "/path" } or { credential = "name" }'

    def reveal(self) -> str:
        """Return the current text, as `trimmed`."""
        return self._text

    @classmethod
    def trimmed(cls, text: str) -> str:
        """Return the part of a file's text that counts; byte order mark and last line break are off already."""
        return text

    def refresh(self) -> bool:
        """Read a changed file again; True if the text has changed. If the file is gone or unusable, the old text stays."""
        stamp = stamp_of(self._path)
        if self._path is None or stamp is None or stamp in (self._stamp, self._refused):
            return False
        try:
            text = self.trimmed(read_text(self._path))
        except ValueError as error:
            self._refused, self._complaint = stamp, str(error)
            return False
        if (problem := self.why_unusable(text)) is not None:
            self._refused, self._complaint = stamp, problem
            return False
        self._stamp, self._refused, changed, self._text = stamp, None, text != self._text, text
        return changed

    def complaint(self) -> str | None:
        """Return why the text of a changed file is not used; once for each such text."""
        complaint, self._complaint = self._complaint, None
        return complaint

    def why_unusable(self, text: str) -> str | None:
        """Return why a text cannot be used; None if it can."""
        return None


class Secret(FileBacked):
    """Secret by reference. It prints as `***`; only `reveal()` returns the text."""

    __slots__ = ()

    @classmethod
    def from_reference(cls, value: object, base: Path) -> Secret:
        if isinstance(value, str):
            raise ValueError(f"a secret may not stand in the file itself; refer to it: {cls._example()}")
        secret = super().from_reference(value, base)
        assert isinstance(secret, Secret)
        if not secret.reveal():
            raise ValueError(f"the secret is empty: {secret.origin}; put the secret's text there")
        return secret

    @classmethod
    def trimmed(cls, text: str) -> str:
        """Remove white space at the end: editors, `echo` and copied lines leave it there, invisible."""
        return text.rstrip()

    def why_unusable(self, text: str) -> str | None:
        """Refuse an empty text: an editor empties a file before it writes the new text."""
        return None if text else f"the secret is empty: {self.origin}"

    def __repr__(self) -> str:
        return "***"


class TextList(FileBacked):
    """List of words: inline as `["a", "b"]`, or `{ file = "list.txt" }` with one word a line (`#` starts a comment)."""

    __slots__ = ("_of", "_words")

    @classmethod
    def from_reference(cls, value: object, base: Path) -> TextList:
        if isinstance(value, list):
            if not all(isinstance(word, str) for word in value):
                raise ValueError('must be a list of texts, as in ["0010023"], or { file = "list.txt" }')
            if any(word != word.strip() or not word or "#" in word or "\n" in word for word in value):
                raise ValueError("has a text that is empty, begins or ends with a space, or holds a # or a line break")
            return cls("\n".join(value), origin="inline")
        made = super().from_reference(value, base)
        assert isinstance(made, TextList)
        return made

    @property
    def words(self) -> frozenset[str]:
        """The current words."""
        if getattr(self, "_of", None) is not self._text:
            lines = (line.split("#", 1)[0].strip() for line in self._text.splitlines())
            self._words, self._of = frozenset(filter(None, lines)), self._text
        return self._words

    def __repr__(self) -> str:
        return f"<list from {self.origin}>"


def _credential(name: str, base: Path) -> Path:
    """Return the path of a systemd credential; if the unit loads a whole folder, its name stands in front of the file's.

    Without systemd (a command of an operator, a gateway started by hand) the folder that the unit loads serves: `credentials` beside the
    configuration.
    """
    home = (base.parent if base.name == "conf.d" else base) / "credentials"
    if name in (".", "..") or "/" in name:
        raise ValueError(f"credential {name!r} must be the name of a file in {home}; for a path write {{ file = ... }}")
    given = os.environ.get("CREDENTIALS_DIRECTORY")
    folder = Path(given) if given else home
    for path in (folder / name, folder / f"secrets_{name}"):
        if os.path.exists(path):
            return path
    if folder.is_dir() and not os.access(folder, os.R_OK | os.X_OK):
        raise ValueError(f"credential {name} cannot be looked up: only root may read {folder}; run this with sudo")
    raise ValueError(f"there is no credential {name}; put the file into {home}" + (" and restart the service" if given else ""))


def read_text(path: Path) -> str:
    """Read a file's text without byte order mark and last line break. Raises ValueError, which says why."""
    try:
        text = path.read_bytes().decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise ValueError(f"cannot read {path}: not UTF-8 text") from error
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    return text.removesuffix("\n").removesuffix("\r")


def stamp_of(path: Path | None) -> _Stamp | None:
    """Return values that change with a file; None if there is no file."""
    try:
        found = path.stat() if path else None
    except (OSError, ValueError):
        return None
    return (found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns) if found else None

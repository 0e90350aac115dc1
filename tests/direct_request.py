"""A request to the command API, without a network: for a thousand of them a second."""

from __future__ import annotations

from multidict import CIMultiDict


class Asked:
    """As much of a request as the door reads, its body there whole; what is no UTF-8 in a header is there as aiohttp has it."""

    transport = protocol = None

    def __init__(self, method: str, path: str, headers: CIMultiDict[str], body: bytes) -> None:
        self.method, self.raw_path, self.path, self.headers = method, path, path, headers
        self.content, self.total_bytes, self._body = self, len(body), body

    @property
    def content_length(self) -> int | None:
        said = self.headers.get("Content-Length")
        return None if said is None else int(said)

    def is_eof(self) -> bool:
        return True

    def read_nowait(self) -> bytes:
        return self._body

    async def readany(self) -> bytes:
        said, self._body = self._body, b""
        return said

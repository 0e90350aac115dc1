"""What the realtime door is compared with, a process of its own: an aiohttp WebSocket client that decodes, and keeps nothing."""

from __future__ import annotations

import argparse
import asyncio
import json
import time

import aiohttp
import msgspec

SEPARATOR = b"\x1e"
_INVOCATION = 1


async def listen(hub: str, key: str, count: int) -> None:
    """Connect, and say after every `count` calls when the last one was decoded."""
    async with aiohttp.ClientSession(headers={"x-api-key": key}) as session:
        async with session.post(f"{hub}/negotiate?negotiateVersion=1") as answer:
            token = (await answer.json(content_type=None))["connectionToken"]
        async with session.ws_connect(f"{hub}?id={token}", max_msg_size=0, decode_text=False) as socket:
            await socket.send_str('{"protocol":"json","version":1}\x1e')
            heard, decode = 0, msgspec.json.Decoder().decode
            async for message in socket:
                for record in message.data.split(SEPARATOR):
                    if record and decode(record).get("type") == _INVOCATION:
                        heard += 1
                        if heard % count == 0:
                            print(json.dumps({"last_at": time.monotonic()}), flush=True)


def main() -> None:
    """Read the arguments and listen until killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("hub")
    parser.add_argument("--key", default="test-key")
    parser.add_argument("--count", type=int, required=True)
    options = parser.parse_args()
    asyncio.run(listen(options.hub, options.key, options.count))


if __name__ == "__main__":
    main()

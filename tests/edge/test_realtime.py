"""The realtime door: what is pushed is stored, what was missed is polled, and it always comes back."""

from __future__ import annotations

from pathlib import Path

from edge.listening import fault_hub, listening


async def test_what_is_pushed_is_stored_and_the_door_is_up_after_the_resync(tmp_path: Path) -> None:
    async with fault_hub() as hub, listening(tmp_path, hub) as door:
        await door.up()
        await hub.send("OrderChanged", "A", 1)
        await hub.send("OrderChange", "A", 2)
        await door.until(lambda: door.counted("stored") == 2)
        assert await door.keys() == ["A-1", "A-2"]

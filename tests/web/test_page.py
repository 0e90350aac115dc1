"""The page as a browser shows it: nothing on its console, nothing of an order executed, readable in every light and width."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, get_args

import pytest

from gateway import AuthError, Hold
from gateway.health import State
from gateway.store.row_names import statuses_of
from gateway.targets.classify import Outcome
from tests import acme

playwright = pytest.importorskip("playwright.async_api", reason="needs playwright to drive a browser")
CHROMIUM = "/usr/bin/chromium"
pytestmark = pytest.mark.skipif(not os.path.exists(CHROMIUM), reason=f"needs a browser at {CHROMIUM}")

SCRIPT = "<script>document.title = 'owned'</script><img src=x onerror=\"document.title = 'owned'\">"


@asynccontextmanager
async def browser() -> AsyncIterator[Any]:
    async with playwright.async_playwright() as driver:
        made = await driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-background-networking"])
        try:
            yield made
        finally:
            await made.close()


@asynccontextmanager
async def opened(chromium: Any, url: str, *, width: int = 1280, scheme: str = "light", until: str = "networkidle") -> AsyncIterator[Any]:
    """The page; whatever a browser has to complain about it is a failure."""
    context = await chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = await context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("requestfailed", lambda request: complaints.append(f"failed: {request.url}"))
    page.on("response", lambda response: complaints.append(f"{response.status}: {response.url}") if response.status >= 400 else None)
    answer = await page.goto(url, wait_until=until)
    assert answer.status == 200
    yield page
    assert complaints == []
    await context.close()


# What a reader needs: enough contrast (4.5 to 1) for every text. Gives those that have less.
CONTRAST = """() => {
  const numbers = text => text.match(/[\\d.]+/g).map(Number);
  const linear = v => v / 255 <= .03928 ? v / 255 / 12.92 : ((v / 255 + .055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => .2126 * linear(r) + .7152 * linear(g) + .0722 * linear(b);
  const ground = e => {
    for (; e; e = e.parentElement) {
      const colour = numbers(getComputedStyle(e).backgroundColor);
      if (colour.length < 4 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const ratio = e => {
    const [a, b] = [light(numbers(getComputedStyle(e).color)), light(ground(e))].sort((x, y) => y - x);
    return (a + .05) / (b + .05);
  };
  const texts = [...document.querySelectorAll('body *')].filter(e => [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()));
  return texts.map(e => [ratio(e), e.textContent.trim().slice(0, 40)]).filter(([found]) => found < 4.5);
}"""


async def in_trouble(start: Any, erp: Any) -> Any:
    """A gateway with a door down, a paused target, and a row of every kind that waits for a person."""
    running = await start(erp.url)

    async def refused(**_: Any) -> Any:
        raise AuthError("the vendor answers 401; check the credentials and what they may do")

    def ask(**_: Any) -> None:
        raise Hold(f"Which of the two customers is it? {SCRIPT}")

    acme.faults["poll"] = refused
    running.gateway._runtime.resume("acme")
    await running.deliver(b'{"id": 7}')
    await running.deliver(acme.body("5f0c2b7e9d1a4c55"))
    await erp.wait_for(1)
    await running.deliver(acme.body("5f0c2b7e9d1a4c55", qty=2))
    erp.arm("status", status=422, body='{"error": "Jane Doe has no credit"}')
    await running.deliver(acme.body("o" * 190))
    await running.until(lambda: count(running, "outbox", "dead", 1))
    acme.faults["normalize"] = ask
    await running.deliver(acme.body(SCRIPT[:60]))
    await running.until(lambda: count(running, "inbox", "held", 2))
    running.gateway._runtime.deliver["erp"].health.refuse(Outcome(meaning="paused", reason=f"the target answers 401: {SCRIPT}"), 0, 0.0)
    running.gateway._store.look_at_disk = lambda: None  # it would see that there is room
    running.gateway._store.refusing = "the disk is nearly full"
    return running


async def count(running: Any, queue: str, status: str, wanted: int) -> bool:
    return len(await running.rows(queue, status=status)) == wanted


async def test_a_gateway_with_nothing_to_say_says_that_all_is_well(start, erp, tmp_path: Path) -> None:
    running = await start(erp.url)
    async with browser() as chromium, opened(chromium, running.admin_url) as page:
        assert await page.title() == "order-gateway"
        assert await page.locator("header .badge").all_inner_texts() == ["All is well"]
        assert await page.locator("section h2").all_inner_texts() == ["Sources", "Targets", "Rows by status"]
        assert "none yet" in await page.locator("main").inner_text()
        await page.screenshot(path=tmp_path / "nothing.png", full_page=True)
    assert (tmp_path / "nothing.png").stat().st_size > 10_000


async def test_trouble_is_named_and_nothing_of_it_is_executed(start, erp, tmp_path: Path) -> None:
    running = await in_trouble(start, erp)
    async with browser() as chromium, opened(chromium, running.admin_url) as page:
        assert await page.title() == "Down: order-gateway"
        assert await page.locator("header .badge").all_inner_texts() == ["3 problems", "4 rows wait for a person"]
        down = await page.locator("section.down").inner_text()
        for said in (
            "Source acme, poll",
            "the vendor answers 401",
            "Target erp",
            "The store refuses new orders",
            "the disk is nearly full",
        ):
            assert said in down
        waiting = await page.locator(".stacks tbody tr").all_inner_texts()
        assert len(waiting) == 4
        whole = "\n".join(waiting)
        for said in (
            "gateway show inbox:1",
            "gateway replay inbox:1",
            "gateway release inbox:3",
            "refuses the order (422)",
            "acme/5f0c2b7e9d1a4c55@2",
        ):
            assert said in whole
        assert SCRIPT in whole  # as text
        assert await page.locator("script, img").count() == 0
        assert "Jane Doe" not in await page.content()


@pytest.mark.parametrize("width", [1280, 390])
async def test_the_page_is_readable_in_every_light_and_width(start, erp, tmp_path: Path, width: int) -> None:
    running = await in_trouble(start, erp)
    async with browser() as chromium:
        for scheme in ("light", "dark"):
            async with opened(chromium, running.admin_url, width=width, scheme=scheme, until="load") as page:
                assert await page.evaluate("document.documentElement.scrollWidth") <= width
                assert await page.evaluate(CONTRAST) == []
                await page.screenshot(path=tmp_path / f"{scheme}.png", full_page=True)
    assert (tmp_path / "light.png").read_bytes() != (tmp_path / "dark.png").read_bytes()


async def test_a_long_list_says_how_much_more_there_is(start, erp) -> None:
    running = await start(erp.url)
    for n in range(53):
        await running.deliver(f"nonsense {n}".encode())
    async with browser() as chromium, opened(chromium, running.admin_url) as page:
        assert await page.title() == "53 waiting: order-gateway"
        assert await page.locator("header .badge").all_inner_texts() == ["53 rows wait for a person"]
        assert await page.locator(".stacks tbody tr").count() == 50
        assert "3 older rows are not shown" in await page.locator("section", has_text="Waiting for a person").inner_text()


async def test_the_page_needs_no_script_and_shows_itself_anew(start, erp) -> None:
    running = await start(erp.url)
    _, text = await running.get("/")
    assert '<meta http-equiv="refresh" content="10">' in text
    for word in ("<script", "javascript:", "onclick", "style=", "http://", "https://"):
        assert word not in text


async def test_the_words_of_the_page_are_explained(start, erp, tmp_path: Path) -> None:
    """Every status, queue and state that the page can show stands in its glossary, a page that does not reload while it is read."""
    running = await start(erp.url)
    async with browser() as chromium, opened(chromium, running.admin_url) as page:
        await page.get_by_role("link", name="What the words mean").click()
        assert await page.title() == "Glossary: order-gateway"
        assert await page.evaluate(CONTRAST) == []
        assert "http-equiv" not in await page.content()
        explained = (await page.locator("dl").inner_text()).lower()
        states = [state for state in get_args(State) if state != "up"]
        for word in (*statuses_of("outbox"), *states, "inbox", "outbox", "acknowledgements", "submit", "door"):
            assert f"{word}\n" in explained
        await page.screenshot(path=tmp_path / "glossary.png", full_page=True)

"""Bodies that break parsers, genuine as far as their signature goes: 4xx or a dead letter, never 5xx, never a blocked queue."""

from __future__ import annotations

import asyncio
import codecs
import gzip
from collections.abc import Iterator

from tests import acme
from tests.log_lines import log_lines

DEEP = 100_000


def poison() -> Iterator[tuple[str, bytes]]:
    """Name and body; the ids are all different, so that nothing falls out as a repeat."""

    def order(number: int, **raw: str) -> bytes:
        fields = {"id": f'"p{number}"', "qty": "1", "price": '"1.50"', **raw}
        return ("{" + ",".join(f'"{name}":{value}' for name, value in fields.items()) + "}").encode("utf-8", "surrogatepass")

    numbers: tuple[str, ...] = (
        "NaN",
        "Infinity",
        "-Infinity",
        "1e999",
        "-1e999",
        "1e-999",
        "01",
        "+1",
        "1.",
        ".5",
        "0x10",
        "1_000",
        "--1",
        "1e",
        "",
    )
    numbers += (str(2**63), str(2**64), str(-(2**63) - 1), "1" * 5000, "1.5", "1" + "0" * 400 + ".0", "-1", "true", "null", "[]", "{}")
    for n, text in enumerate(numbers):
        yield f"quantity {text[:20]}", order(n, qty=text)
    prices = (
        "NaN",
        "sNaN",
        "Infinity",
        "1E+999",
        "1E-999",
        "1E999999999",
        "9" * 100,
        "0." + "0" * 60 + "1",
        "",
        " ",
        "1,50",
        "1 000",
        "١٢",
        "1\\u0000",
    )
    for n, text in enumerate(prices, start=100):
        yield f"price {text[:20]}", order(n, price=f'"{text}"')
    texts = {
        "a lone high surrogate": '"\\ud800"',
        "a lone low surrogate": '"\\udc00x"',
        "surrogates the wrong way round": '"\\udc00\\ud800"',
        "a raw surrogate": '"\ud800"',
        "a NUL": '"a\\u0000b"',
        "a raw NUL": '"a\0b"',
        "a raw line break": '"a\nb"',
        "an escape that is none": '"\\x41"',
        "half an escape": '"\\u12"',
        "a text that does not end": '"abc',
        "a text in single quotes": "'abc'",
        "a text of a megabyte": '"' + "x" * 1_000_000 + '"',
        "a direction override": '"\\u202eabc"',
        "no character at all": '"\\uffff"',
        "only spaces": '"   "',
        "a number for a text": "7",
        "a path": '"../../etc/passwd"',
        "a statement": '"\'; DROP TABLE inbox; --"',
        "a template": '"{{7*7}}${7*7}%s%n"',
    }
    for name, text in texts.items():
        yield f"id {name}", order(0, id=text)
    yield "the id twice", b'{"id":"p200","id":"p201","qty":1}'
    yield "an unknown key twice", b'{"id":"p202","x":1,"x":[]}'
    yield "a key with a NUL", b'{"id":"p203","\\u0000":1}'
    yield "a comma too many", b'{"id":"p204",}'
    yield "a comment", b'{"id":"p205"}// yes'
    yield "two documents", b'{"id":"p206"}{"id":"p207"}'
    yield "a document and rubbish", b'{"id":"p208"}\0'
    yield "nothing", b""
    yield "white space", b" \t\r\n"
    yield "one brace", b"{"
    for root in (b"null", b"true", b"7", b'"p209"', b"[]", b'[{"id":"p210"}]'):
        yield f"the root {root.decode()}", root
    for opening, closing in ((b"[", b"]"), (b'{"a":', b"}")):
        yield f"deep {opening!r}", opening * DEEP + b"1" + closing * DEEP
        yield f"deep {opening!r} without an end", opening * DEEP
        yield f"deep {opening!r} in an unknown key", b'{"id":"p211","x":' + opening * DEEP + b"1" + closing * DEEP + b"}"
    yield "a byte order mark", codecs.BOM_UTF8 + acme.body("p212")
    yield "UTF-16", acme.body("p213").decode().encode("utf-16")
    yield "UTF-32", acme.body("p214").decode().encode("utf-32")
    yield "Latin-1", '{"id":"é"}'.encode("latin-1")
    yield "overlong UTF-8", b'{"id":"\xc0\xaf"}'
    yield "a cut UTF-8 sequence", b'{"id":"p215\xe2\x82"}'
    yield "compressed", gzip.compress(acme.body("p216"))
    yield "a form", b"id=p217&qty=1"
    yield "XML", b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><id>&b;</id>'
    yield "many keys", b"{" + b",".join(b'"k%d":0' % n for n in range(50_000)) + b',"id":"p218"}'
    yield "many elements", b'{"id":"p219","x":[' + b",".join([b"0"] * 300_000) + b"]}"


POISON = dict(poison())


def test_there_is_enough_poison() -> None:
    assert len(POISON) >= 60


async def test_poison_is_refused_or_kept_and_blocks_nobody(start, erp) -> None:
    running = await start(erp.url)
    with log_lines() as lines:
        heard = {name: await running.deliver(body) for name, body in POISON.items()}
        assert not {name: answer for name, answer in heard.items() if answer[0] not in (200, 400)}
        assert sum(status == 400 for status, _ in heard.values()) >= 60

        assert (await running.deliver(acme.body("afterwards")))[0] == 200
        async with asyncio.timeout(10):
            while "acme/afterwards/1" not in erp.orders:
                await asyncio.sleep(0.01)
        await running.until(lambda: nothing_open(running))
    assert not running.task.done()
    assert not [line for line in lines if '"level":"critical"' in line or "task.died" in line or "request.failed" in line]
    for message in erp.messages():
        assert message["order"]["total"] not in ("NaN", "Infinity", "-Infinity")


async def nothing_open(running) -> bool:
    _, status = await running.get("/api/status")
    return all(status[queue][word] == 0 for queue in ("inbox", "outbox") for word in ("ready", "leased"))


async def test_every_poisoned_body_that_was_kept_is_kept_whole(start, erp) -> None:
    running = await start(erp.url)
    names = [name for name, body in POISON.items() if body and len(body) < 10_000]
    keys = {}
    for name in names:
        status, said = await running.deliver(POISON[name])
        if status == 400:
            keys[said["key"]] = POISON[name]
    for key, body in keys.items():
        (row,) = await running.gateway._reader.show(f"acme/{key}")
        assert (row["body"], row["status"]) == (body, "dead")


async def test_poison_that_is_replayed_is_poison_again_and_blocks_nobody(start, erp) -> None:
    running = await start(erp.url)
    for name in ("deep b'['", "quantity NaN", "id a lone high surrogate", "nothing"):
        assert (await running.deliver(POISON[name]))[0] == 400
    dead = [row["row"] for row in await running.rows("inbox", status="dead")]
    assert len(dead) == 4
    await running.gateway._store.replay(dead, "tester")
    await running.deliver(acme.body("afterwards"))
    await erp.wait_for(1)
    await running.until(lambda: nothing_open(running))
    assert len(await running.rows("inbox", status="dead")) == 4

"""Bytes that were changed, cut and put together anew, for hypothesis; what atheris finds by itself, here has to be guessed."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st

TOKENS: tuple[bytes, ...] = (
    *(b"null", b"true", b"[]", b"{}", b'""', b"0", b"-1", b"1e999", b"NaN", b"1E-99999999", b"9" * 400, b"18446744073709551616", b"1.5"),
    *(b"\0", b"\xff", b"\xef\xbb\xbf", b"\xed\xa0\x80", b'"\\ud800"', b'"\\u0000"', b"\x1e", b"\r\n", b"\n", b" ", b"'", b'"', b"\\"),
    *(b"[" * 16_000, b'{"a":' * 5000, b"((((((((", b"[0][0]", b"$", b"{", b"}", b"%", b"/../", b"//", b"/*", b"=", b",", b":", b"]"),
    *(b"0001-01-01T00:00:00+23:59", b"9999-12-31T23:59:59-23:59", b"2024-02-30", b"\xc2\x85", b"\xe2\x80\xa8", b"x" * 3000),
)
Edit = tuple[str, float, float, bytes]
edits: st.SearchStrategy[Edit] = st.tuples(
    st.sampled_from(["insert", "replace", "cut", "double", "end"]),
    st.floats(0, 1),
    st.floats(0, 1),
    st.sampled_from(TOKENS) | st.binary(max_size=6),
)


def changed(data: bytes, made: Sequence[Edit]) -> bytes:
    """One text after its edits; places are shares of its length."""
    for kind, first, second, token in made:
        begin, end = sorted((round(first * len(data)), round(second * len(data))))
        end = min(end, begin + 40)
        match kind:
            case "insert":
                data = data[:begin] + token + data[begin:]
            case "replace":
                data = data[:begin] + token + data[end:]
            case "cut":
                data = data[:begin] + data[end:]
            case "double":
                data = data[:end] + data[begin:]
            case "end":
                data = data[:begin]
    return data


def mutated(corpus: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """Mostly the corpus, edited; some bytes of any kind."""
    return st.builds(changed, st.sampled_from(corpus), st.lists(edits, max_size=4)) | st.binary(max_size=200)

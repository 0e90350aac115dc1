"""Bounded JSONata: a text is compiled once and evaluated over plain JSON, with exact decimals and no float.

The engine is jsonata-python, pure Python: about 0.2 ms a line of an order, so 10 ms for 50 lines, on the calling thread. The bounds are
checked in its callbacks: its own `set_runtime_bounds` starts the time at compilation and does not look inside lists and objects. Time is
this thread's processor time, so a busy machine refuses nothing. A mapping is trusted not to be hostile. A document is not trusted, and
cannot make a mapping run longer than the bound and one more function.

The language lacks regular expressions (nothing stops Python's: `(a+)+$` on 26 letters ran 8 s past a bound of 0.5 s), functions whose
result changes (`$now`, `$random`), `$eval`, and arithmetic on floats. All are refused when the text is compiled.
"""

from __future__ import annotations

import inspect
import re
import sys
import time
from collections.abc import Callable, Collection, Mapping
from functools import lru_cache
from typing import Any, Protocol

from gateway.api.strict_json import check_shape
from gateway.mapping.checks import LARGEST, check_tree, comparisons
from gateway.mapping.functions import FUNCTIONS, MAX_TEXT, Refusal
from gateway.mapping.library import NULL, JException, Jsonata

TIME_S = 0.5
MAX_DEPTH = 100
MAX_ITEMS = 10_000
MAX_SOURCE = 64 * 1024
MAX_RESULT = 100_000
_LOOK_EVERY = 16
_NUMBER = re.compile(r"\s*[+-]?[0-9]+(?:\.[0-9]+)?\s*\Z")

_EXACT = "numbers of the document are exact texts: use $add, $sub, $mul, $div, $round, and $compare instead of < and >"


class ExpressionError(ValueError):
    """A text cannot be compiled; `problems` are (line, column, text), columns counted from 1."""

    def __init__(self, problems: list[tuple[int, int, str]]) -> None:
        super().__init__("; ".join(f"line {line}, column {column}: {text}" for line, column, text in problems))
        self.problems = problems


class EvaluationError(ValueError):
    """A text cannot be evaluated over a document; the error has the place in the text and quotes nothing of the document."""


class CallSite(Protocol):
    """Place of a call, for a function that is bound to one evaluation."""

    @property
    def line_number(self) -> int | None:
        """The `line_number` of the innermost object in focus that has one."""

    @property
    def place(self) -> str:
        """Line and column of the text, as a phrase."""


Bound = Callable[[CallSite], Mapping[str, Callable[..., Any]]]


class Expression:
    """Compiled JSONata text.

    Args:
        more: Names of functions that each evaluation binds (`functions` of `evaluate`), beside FUNCTIONS or in their place.
        numbers_are_texts: True for documents of `gateway.read_json`. False if whole numbers are numbers in them.
    Raises:
        ExpressionError: The text cannot be read, or calls an unknown function.
    """

    def __init__(self, source: str, more: Collection[str] = (), *, numbers_are_texts: bool = True) -> None:
        self._source = source
        if len(source) > MAX_SOURCE:
            raise ExpressionError([(1, 1, f"longer than {MAX_SOURCE} characters")])
        try:
            self._compiled = Jsonata(source, regex_engine=lambda pattern, flags: None)
        except JException as error:
            raise ExpressionError([(*self._place(error.location), _syntax(error))]) from None
        except RecursionError:
            raise ExpressionError([(1, 1, "nested too deeply")]) from None
        except Exception:  # the tokenizer runs over the end of the text
            at = max(source.rfind("/*"), 0)
            raise ExpressionError([(*self._place(at + 1), "cannot be read; a comment or a text without its end?")]) from None
        problems = [(*self._place(at), text) for at, text in check_tree(self._compiled.ast, more, numbers_are_texts=numbers_are_texts)]
        for name, function in FUNCTIONS.items():
            self._compiled.assign(name, _HostFunction(name, function))
        if problems:
            raise ExpressionError(sorted(set(problems)))
        self._comparisons = comparisons(self._compiled.ast)
        self._compiled.set_validate_input(False)
        self._compiled.set_output_convert_nulls(False)

    def evaluate(self, document: Any, functions: Bound | None = None, *, marked: bool = False) -> Any:
        """Evaluate the text over a document of `gateway.read_json`; the result is plain JSON, numbers whole or exact texts.

        Args:
            functions: Makes the functions of this evaluation.
            marked: True keeps numbers that functions made as `Exact`; else they are texts like any other.
        Raises:
            EvaluationError: A bound was passed, a function refused its arguments, or JSONata has no meaning for the text.
        """
        try:
            check_shape(document, MAX_ITEMS)
        except ValueError as error:
            raise EvaluationError(f"the document: {error}") from None
        document = _with_fixed_lists(document)
        if not hasattr(Jsonata.CURRENT, "jsonata"):
            Jsonata("null")  # else this thread would work with the parser of the one that compiled
        guard = _Guard(self._comparisons, self._place)
        hosts = {name: _HostFunction(name, function) for name, function in functions(guard).items()} if functions else {}
        try:
            found = self._compiled.evaluate(document, {**hosts, "__evaluate_entry": guard.enter, "__evaluate_exit": guard.leave})
            return _plain(found, _Budget(marked))
        except _Stop as stop:
            at, text = stop.location, str(stop.text)
        except JException as error:
            at, text = error.location if error.location > 0 else guard.at, self._message(error)
        except RecursionError:
            at, text = 0, "nested too deeply; a function that never stops calling itself?"
        except Exception as error:  # what the library did not expect; its text may quote the document
            at, text = guard.at, f"cannot be evaluated ({type(error).__name__})"
        line, column = self._place(at)
        raise EvaluationError(f"line {line}, column {column}: {text}" if at > 0 else text)

    def _place(self, position: int) -> tuple[int, int]:
        """Return line and column of a position, which JSONata counts to the end of the word."""
        before = self._source[: max(position, 0)]
        line = before.rfind("\n", 0, max(len(before) - 1, 0))
        return before.count("\n", 0, max(len(before) - 1, 0)) + 1, max(len(before) - line - 1, 1)

    def _message(self, error: JException) -> str:
        """Return JSONata's message without the values that it quotes."""
        code, first, second = str(error.error), error.current, error.expected
        if code == "T2010":
            return "compares null, a list or an object; ask first, as in: due and due < other"
        if code in ("T2001", "T2002", "T2009", "D1002"):
            return f"not a whole number on both sides; {_EXACT}"
        if code in ("D3137", "D3141"):  # $error and $assert: the operator's words, unless they hold the document's
            return str(first) if str(first) in self._source else "refused by $error or $assert"
        if code == "T0410" and isinstance(second, str):
            return f"argument {first} of ${second} is of the wrong kind (a number of the document is a text here)"
        if code in ("T0410", "T0411", "T0412"):
            return "an argument is missing or of the wrong kind (a number of the document is a text here)"
        if code in ("T1005", "T1006", "T1007", "T1008"):
            return "called, and is no function; functions begin with $"
        text = str(JException.error_codes.get(code, "cannot be evaluated"))
        return text.split("{{")[0].split(":")[0].strip()


@lru_cache(maxsize=64)
def compiled(source: str) -> Expression:
    """Compile a text once. Raises ExpressionError."""
    return Expression(source)


class _Stop(JException):  # type: ignore[misc]  # the library hands only its own exceptions on through `and` and `or`
    def __init__(self, at: int, text: str) -> None:
        super().__init__("D3137", at, text)
        self.text = text


class _Guard:
    """Callbacks before and after each step of an evaluation, which stop it at a bound."""

    def __init__(self, comparisons: dict[int, tuple[int, int]], place: Callable[[int], tuple[int, int]]) -> None:
        self._comparisons = comparisons
        self._place = place
        self._foci: list[Any] = []
        self._sides: dict[int, Any] = dict.fromkeys(side for sides in comparisons.values() for side in sides)
        self._depth = 0
        self._steps = 0
        self._until = time.thread_time() + TIME_S
        self.at = 0

    @property
    def line_number(self) -> int | None:
        for focus in reversed(self._foci):
            if isinstance(focus, dict) and isinstance(number := focus.get("line_number"), int):
                return number
        return None

    @property
    def place(self) -> str:
        return "line {}, column {}".format(*self._place(self.at))

    def enter(self, step: Any, focus: Any, frame: Any) -> None:
        self._depth += 1
        self._foci.append(focus)
        self._steps += 1
        self.at = step.position or self.at
        if self._depth > MAX_DEPTH:
            raise _Stop(self.at, f"more than {MAX_DEPTH} steps deep; a function that never stops calling itself?")
        if self._steps % _LOOK_EVERY == 0 and time.thread_time() > self._until:
            raise _Stop(self.at, f"takes longer than {TIME_S} s")

    def leave(self, step: Any, focus: Any, frame: Any, result: Any) -> None:
        self._depth -= 1
        self._foci.pop()
        if id(step) in self._sides:
            self._sides[id(step)] = result
        if id(step) in self._comparisons and all(_is_number_text(self._sides[side]) for side in self._comparisons[id(step)]):
            raise _Stop(step.position, 'compares two numbers letter by letter, and "10" comes before "9"; use $compare(a, b) < 0')
        kind = type(result)
        if kind is str:
            if len(result) > MAX_TEXT:
                raise _Stop(step.position, f"a text of more than {MAX_TEXT} characters")
        elif kind is float or (kind is int and abs(result) > LARGEST):
            raise _Stop(step.position, f"a number that is not exact; {_EXACT}")
        elif isinstance(result, (list, dict)) and len(result) > MAX_ITEMS:
            raise _Stop(step.position, f"more than {MAX_ITEMS} items")


def _is_number_text(value: Any) -> bool:
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    return isinstance(value, str) and _NUMBER.match(value) is not None


class _NoItems(list[Any]):
    """Empty list that stays empty: JSONata adds an empty value to a list that it groups, and later steps would take it for a line."""

    def append(self, item: Any) -> None:
        pass


def _with_fixed_lists(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _with_fixed_lists(one) if isinstance(one, (dict, list)) else one for key, one in value.items()}
    if isinstance(value, list):
        return [_with_fixed_lists(one) for one in value] or _NoItems()
    return value


class _Budget:
    def __init__(self, marked: bool) -> None:
        self.left = MAX_RESULT
        self.marked = marked


def _plain(value: Any, budget: _Budget, deep: int = 0) -> Any:
    """Convert the library's own types to lists, objects, texts, whole numbers, booleans and None."""
    budget.left -= 1
    if budget.left < 0 or deep > MAX_DEPTH:
        raise _Stop(0, f"a result of more than {MAX_RESULT} values, or too deep")
    if value is None or value is NULL:
        return None
    if isinstance(value, str):
        return value if budget.marked else str(value)
    if isinstance(value, bool) or (isinstance(value, int) and abs(value) <= LARGEST):
        return value
    if isinstance(value, dict):
        return {key: _plain(one, budget, deep + 1) for key, one in value.items()}
    if isinstance(value, list):
        return [_plain(value[n], budget, deep + 1) for n in range(len(value))]
    if isinstance(value, (int, float)):
        raise _Stop(0, f"a number that is not exact; {_EXACT}")
    raise _Stop(0, "a function in the result; is a pair of () missing after its name?")


class _HostFunction(Jsonata.JLambda):  # type: ignore[misc]
    """Adapter of one of FUNCTIONS for the library: `$dec(price)`, `price.$dec()`, `price ~> $dec`, `$map(prices, $dec)`."""

    def __init__(self, name: str, function: Any) -> None:
        super().__init__(lambda *given: self._called(*given))
        self.function_name = name
        self._function = function
        parameters = inspect.signature(function).parameters.values()
        self._needed = [one for one in parameters if one.default is one.empty and one.kind is not one.VAR_POSITIONAL]
        self._most = len(parameters) if all(one.kind is not one.VAR_POSITIONAL for one in parameters) else sys.maxsize
        self._takes = ", ".join(parameter.name for parameter in parameters)
        self.function.__signature__ = inspect.Signature(self._needed)  # what $map and $reduce go by

    def _called(self, *given: Any) -> Any:
        if not len(self._needed) <= len(given) <= self._most:
            raise _Stop(-1, f"${self.function_name} takes ({self._takes})")
        try:
            return self._function(*given)
        except Refusal as refusal:
            raise _Stop(-1, str(refusal)) from None

    def call(self, focus: Any, given: Any) -> Any:
        from_focus = [focus] if len(given) == len(self._needed) - 1 and isinstance(focus, (str, int)) else []
        return self._called(*from_focus, *given)

    def get_number_of_args(self) -> int:
        return len(self._needed)


def _syntax(error: JException) -> str:
    if error.error == "S0301" and error.current is not None:
        return "unsupported escape sequence in a text"
    return str(error)

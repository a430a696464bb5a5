"""Plain typed data as text, and frames of it on a socket.

JSON, in which whatever JSON does not know is an object with one tag: ``{"t": [...]}`` is a tuple. Nothing that is read
can run code or become an object of another class. The exact types come back:

>>> loads(dumps((1, True, 2.5, {"a": {1}}, b"x")))
(1, True, 2.5, {'a': {1}}, b'x')

A subclass goes as its plain type, by what it holds and not by what its methods say.
"""

from __future__ import annotations

import collections
import itertools
import json
import struct
from typing import Any

DEPTH = 200  # of nested containers
ITEMS = 1_000_000  # of an iterator
HEADER = struct.Struct(">I")

_SCALARS = frozenset({int, float, str, bool, type(None)})
_encode = json.JSONEncoder(ensure_ascii=True, check_circular=False, separators=(",", ":")).encode
_decode = json.JSONDecoder().decode
_TYPES = {
    one.__name__: one
    for one in (bool, int, float, complex, str, bytes, bytearray, list, tuple, dict, set, frozenset, range, object)
}
_HUGE = 10**4000  # the text of longer numbers takes quadratic time, and Python refuses it


class NotPlain(ValueError):
    """Data of other types, nested too deeply, or text that is none of ours."""


class OtherType(NotPlain):
    """An object of a type that can't be sent."""


def dumps(value: Any) -> str:
    """Text of plain data.

    Raises:
        NotPlain: naming the type that it can't hold.
    """
    return _encode(pack(value))


def loads(text: str) -> Any:
    """Plain data from text, whoever wrote it.

    Raises:
        NotPlain: it is none of ours.
    """
    try:
        return unpack(_decode(text))
    except NotPlain:
        raise
    # Garbage can make the decoder and the constructors raise many kinds; all mean the same.
    except (ValueError, TypeError, LookupError, RecursionError, OverflowError, AttributeError) as error:
        raise NotPlain(f"text that is no plain data ({type(error).__name__}: {error})"[:200]) from None


def pack(value: Any, depth: int = 0) -> Any:
    """What JSON can hold, for any plain value."""
    kind = type(value)
    if kind is int:
        return value if -_HUGE < value < _HUGE else {"i": hex(value)}
    if kind in _SCALARS:
        return value
    if depth >= DEPTH:
        raise NotPlain(f"containers nested more than {DEPTH} deep")
    if kind is list:
        return _items(value, depth)
    if kind is tuple:
        return {"t": _items(value, depth)}
    return _other(value, kind, depth)


def _items(values: Any, depth: int) -> list[Any]:
    kinds = set(map(type, values))
    if kinds <= _SCALARS:
        numbers = values if kinds == {int} else [one for one in values if type(one) is int] if int in kinds else [0]
        if -_HUGE < min(numbers, default=0) and max(numbers, default=0) < _HUGE:
            return values if type(values) is list else list(values)
    return [pack(one, depth + 1) for one in values]


def _other(value: Any, kind: type, depth: int) -> Any:
    for base, how in _KINDS:
        if issubclass(kind, base):
            return how(value, depth)
    raise OtherType(f"an object of type {kind.__name__}")


def _dict(value: Any, depth: int) -> Any:
    keys, values = list(dict.keys(value)), list(dict.values(value))
    return {"d": [_items(keys, depth), _items(values, depth)]}


_KINDS: tuple[tuple[Any, Any], ...] = (
    (dict, _dict),
    (bool, lambda value, depth: bool(value)),
    (int, lambda value, depth: pack(int.__index__(value))),
    (float, lambda value, depth: float.__pos__(value)),
    (str, lambda value, depth: str.__str__(value)),
    (complex, lambda value, depth: {"c": [complex.__pos__(value).real, complex.__pos__(value).imag]}),
    (list, lambda value, depth: _items(list(list.__iter__(value)), depth)),
    (tuple, lambda value, depth: {"t": _items(list(tuple.__iter__(value)), depth)}),
    (set, lambda value, depth: {"s": _items(list(set.__iter__(value)), depth)}),
    (frozenset, lambda value, depth: {"f": _items(list(frozenset.__iter__(value)), depth)}),
    (bytes, lambda value, depth: {"b": bytes.hex(value)}),
    (bytearray, lambda value, depth: {"y": bytearray.hex(value)}),
    (range, lambda value, depth: {"r": [pack(one) for one in (value.start, value.stop, value.step)]}),
    (collections.deque, lambda value, depth: {"q": _items(list(collections.deque.__iter__(value)), depth)}),
    (collections.abc.KeysView, lambda value, depth: {"s": _items(list(value), depth)}),
    ((collections.abc.ValuesView, collections.abc.ItemsView), lambda value, depth: _items(list(value), depth)),
    (type, lambda value, depth: _name(value)),
    (collections.abc.Iterator, lambda value, depth: {"g": _items(_taken(value), depth)}),
)  # fmt: skip


def _name(value: type) -> Any:
    """Of the plain types there are objects, too: tests pass them."""
    if _TYPES.get(value.__name__) is not value:
        raise OtherType(f"the type {type.__getattribute__(value, '__name__')}")
    return {"k": value.__name__}


def _taken(values: Any) -> list[Any]:
    found = list(itertools.islice(values, ITEMS + 1))
    if len(found) > ITEMS:
        raise NotPlain(f"an iterator of more than {ITEMS} items")
    return found


def unpack(value: Any, depth: int = 0) -> Any:
    kind = type(value)
    if kind in _SCALARS:
        return value
    if depth > DEPTH:
        raise NotPlain(f"containers nested more than {DEPTH} deep")
    if kind is list:
        return value if _SCALARS.issuperset(map(type, value)) else [unpack(one, depth + 1) for one in value]
    ((tag, held),) = value.items()
    if tag == "t":
        return tuple(_list(held, depth))
    if tag == "d":
        keys, values = held
        return dict(zip(_list(keys, depth), _list(values, depth), strict=True))
    return _TAGS[tag](held, depth) if tag in _TAGS else _refuse(tag)


def _list(held: Any, depth: int) -> list[Any]:
    if type(held) is not list:
        raise NotPlain("a container without a list of items")
    return held if _SCALARS.issuperset(map(type, held)) else [unpack(one, depth + 1) for one in held]


def _refuse(tag: str) -> Any:
    raise NotPlain(f"the tag {tag!r:.20}")


def _whole(held: Any) -> Any:
    if type(held) is not str:
        raise NotPlain("a number that is no text")
    return int(held, 16)


def _range(held: Any, depth: int) -> range:
    return range(*[unpack(one) for one in held])


_TAGS = {
    "i": lambda held, depth: _whole(held),
    "c": lambda held, depth: complex(*[float(one) for one in held]),
    "s": lambda held, depth: set(_list(held, depth)),
    "f": lambda held, depth: frozenset(_list(held, depth)),
    "b": lambda held, depth: bytes.fromhex(held),
    "y": lambda held, depth: bytearray.fromhex(held),
    "r": _range,
    "q": lambda held, depth: collections.deque(_list(held, depth)),
    "k": lambda held, depth: _TYPES[held],
    "g": lambda held, depth: iter(_list(held, depth)),
}


def frame(text: str) -> bytes:
    """Text with its length before it."""
    data = text.encode("ascii")
    return HEADER.pack(len(data)) + data

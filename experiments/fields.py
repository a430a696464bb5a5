"""Fields of configs: read back from JSON, compared, and set from text."""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

_MISSING = object()


def from_json(kind: Any, value: Any, name: str = "config") -> Any:
    """A config as it was before `experiments.records.as_json`, or one of its fields.

    Args:
        kind: the config's class, or a field's type: numbers, strings, None, tuples, dataclasses, unions of these.
        value: what JSON gives.
        name: of the field, for messages.

    Raises:
        ValueError: it does not fit the type; names the field.
    """
    if isinstance(kind, type) and is_dataclass(kind):
        known = typing.get_type_hints(kind)
        names = {field.name for field in fields(kind)}
        if not isinstance(value, Mapping) or value.keys() != names:
            raise ValueError(f"{name}: must have the fields {', '.join(sorted(names))}")
        return kind(**{one: from_json(known[one], value[one], one) for one in names})
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        for one in inner:
            try:
                return from_json(one, value, name)
            except ValueError:
                continue
    elif origin is tuple and isinstance(value, list):
        each = [inner[0]] * len(value) if inner[1:] == (...,) else list(inner)
        if len(each) == len(value):
            return tuple(from_json(one, part, name) for one, part in zip(each, value, strict=True))
    elif kind is type(None) and value is None:
        return None
    elif kind in (int, str, bool) and type(value) is kind:
        return value
    # A whole number stays one: the key of stored data was made of it.
    elif kind is float and type(value) in (int, float):
        return value
    raise ValueError(f"{name}: {json.dumps(value)} is no {getattr(kind, '__name__', kind)}")


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """
    >>> flat({"seed": 0, "base": {"layers": 2}})
    {'seed': 0, 'base.layers': 2}
    """
    found: dict[str, Any] = {}
    for name, value in config.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return found


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Both values of the fields that differ, of configs as JSON; '-' where there is no such field.

    >>> differences({"seed": 0, "n": 1}, {"seed": 1, "n": 1, "new": True})
    {'seed': (0, 1), 'new': ('-', True)}
    """
    first, second = flat(one), flat(other)
    return {
        name: (first.get(name, "-"), second.get(name, "-"))
        for name in first | second
        if first.get(name, _MISSING) != second.get(name, _MISSING)
    }


def alternatives(text: str) -> list[str]:
    """The values between commas; within brackets commas do not count.

    >>> alternatives("1,2"), alternatives("[1,2],[3]")
    (['1', '2'], ['[1,2]', '[3]'])
    """
    found, depth = [""], 0
    for letter in text:
        depth += (letter in "[{") - (letter in "]}")
        if letter == "," and not depth:
            found.append("")
        else:
            found[-1] += letter
    return found


def with_value(config: Any, name: str, text: str) -> Any:
    """The config with one field set from text: JSON, or a string as it stands; ``a.b`` is field b of field a.

    Raises:
        ValueError: there is no such field, the value does not fit, or the config refuses it.
    """
    first, _, rest = name.partition(".")
    hints = {field.name: typing.get_type_hints(type(config))[field.name] for field in fields(config)}
    if first not in hints or (rest and not is_dataclass(getattr(config, first))):
        raise ValueError(f"{name}: no such field; there are {', '.join(hints)}")
    if rest:
        return replace(config, **{first: with_value(getattr(config, first), rest, text)})
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    kind = hints[first]
    # '5' for a string; 1 for a float is the same value as 1.0, and is to have the same key.
    value = text if kind is str else float(value) if kind is float and type(value) is int else value
    return replace(config, **{first: from_json(kind, value, name)})

"""Landlock: which files may be touched, whoever one is (landlock(7)). Works without any privilege."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterable

from . import system

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1, 2, 4, 8
_MAKE_CHAR, _MAKE_SOCK, _MAKE_BLOCK, _IOCTL_DEV = 1 << 6, 1 << 9, 1 << 11, 1 << 15
_FILE_RIGHTS = _EXECUTE | _WRITE_FILE | _READ_FILE | 1 << 14
# All rights of files that each version of the interface knows, from 1.
_RIGHTS = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1}
_VERSION = 1  # LANDLOCK_CREATE_RULESET_VERSION
_TCP = 3  # bind and connect, from version 4
_SCOPES = 3  # abstract unix sockets and signals, from version 6


def version() -> int:
    """Of the kernel's interface.

    Raises:
        OSError: it has none.
    """
    return system.syscall("landlock_create_ruleset", 0, 0, _VERSION)


def restrict(readable: Iterable[str], listable: Iterable[str], devices: Iterable[str], writable: str) -> None:
    """From now on this process and its children can open nothing else.

    Args:
        readable: files, or folders with all in them.
        listable: folders whose names may be read.
        devices: files that may be read and written.
        writable: the scratch folder.
    """
    known = version()
    rights = _RIGHTS.get(known, (1 << 16) - 1)
    fields = [rights] + [_TCP] * (known >= 4) + [_SCOPES] * (known >= 6)
    attributes = struct.pack(f"={len(fields)}Q", *fields)
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    rules = system.syscall("landlock_create_ruleset", buffer, len(attributes), 0)
    try:
        for path in readable:
            _allow(rules, path, _READ_FILE | _READ_DIR)
        for path in listable:
            _allow(rules, path, _READ_DIR)
        for path in devices:
            _allow(rules, path, _READ_FILE | _WRITE_FILE)
        _allow(rules, writable, rights & ~(_EXECUTE | _MAKE_CHAR | _MAKE_SOCK | _MAKE_BLOCK | _IOCTL_DEV))
        system.syscall("landlock_restrict_self", rules, 0)
    finally:
        os.close(rules)


def _allow(rules: int, path: str, rights: int) -> None:
    try:
        opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        if not os.path.isdir(path):
            rights &= _FILE_RIGHTS
        rule = ctypes.create_string_buffer(struct.pack("=Qi", rights, opened), 12)
        system.syscall("landlock_add_rule", rules, 1, rule, 0)
    finally:
        os.close(opened)

# ruff: noqa: E501
"""Programs that take too much."""

from __future__ import annotations

from hostile import Case

_RIGHT = "\ndef squares(n):\n    return sum(k * k for k in range(n))\n"

CASES = [
    Case("never ends", "while True: pass", "timed out"),
    Case("never answers", "def squares(n):\n    while True: pass", "timed out"),
    Case("sleeps", "import time\ndef squares(n): time.sleep(1000)", "timed out"),
    Case("catches all", "def squares(n):\n    while True:\n        try:\n            while True: pass\n        except BaseException: pass", "timed out"),
    Case("is deaf", "import signal\nfor number in range(1, 65):\n    try: signal.signal(number, signal.SIG_IGN)\n    except (OSError, ValueError): pass\nsignal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))\nwhile True: pass", "timed out"),
    Case("stops itself", "import os, signal\ndef squares(n): os.kill(os.getpid(), signal.SIGSTOP)", "timed out"),
    Case("a slow expression", "import re\ndef squares(n): return re.match(r'(a+)+$', 'a' * 60 + 'b')", "timed out"),
    Case("a slow number", "def squares(n): return len(str(7 ** (7 ** 10)))", "timed out|crashed|out of memory"),
    Case("a slow beginning", "import time\ntime.sleep(1000)" + _RIGHT, "timed out"),
    Case("busy in many threads", "import threading\ndef spin():\n    while True: pass\nfor _ in range(8): threading.Thread(target=spin).start()\nthreading.Event().wait()", "timed out"),
    Case("threads that stay", "import threading, time\nthreading.Thread(target=time.sleep, args=(1000,)).start()\nprint(int(input()) * 2)", "timed out", script=True),
    Case("stays at its end", "import atexit, time\natexit.register(time.sleep, 1000)\nprint(int(input()) * 2)", "timed out", script=True),
    Case("waits for more", "import sys, time\nprint(int(input()) * 2, flush=True)\nwhile True: time.sleep(1)", "timed out", script=True),
    Case("memory bit by bit", "def squares(n):\n    a = []\n    while True: a.append(bytes(10 ** 6))", "out of memory", unsafe=1),
    Case("memory at once", "def squares(n): return len(bytearray(10 ** 14))", "out of memory"),
    Case("memory for a list", "def squares(n): return [0] * 10 ** 13", "out of memory"),
    Case("memory by mapping", "import mmap\ndef squares(n): return len(mmap.mmap(-1, 1 << 40))", "crashed|out of memory", unsafe=1),
    Case("the stack of C", "import sys\nsys.setrecursionlimit(10 ** 9)\ndef squares(n):\n    a = []\n    for _ in range(10 ** 7): a = [a]\n    return repr(a)", "crashed|out of memory|timed out|failed"),
    Case("recursion", "def squares(n): return squares(n)", "crashed"),
    Case("threads without end", "import threading, time\ndef squares(n):\n    while True: threading.Thread(target=time.sleep, args=(99,), daemon=True).start()", "crashed", unsafe=2),
    Case("a large file", "def squares(n):\n    with open('a', 'wb') as file:\n        for _ in range(1000): file.write(bytes(10 ** 6))", "crashed|output too large", unsafe=1),
    Case("many files", "def squares(n):\n    for k in range(100):\n        with open(f'{k}', 'wb') as file: file.write(bytes(10 ** 7))", "crashed", unsafe=3),
    Case("many descriptors", "def squares(n):\n    held = [open('/dev/null') for _ in range(10 ** 6)]", "crashed", unsafe=1),
    Case("a large result", "def squares(n): return 'x' * 10 ** 7", "output too large"),
    Case("a wide result", "def squares(n): return list(range(10 ** 7))", "output too large|timed out|out of memory"),
    Case("writes without end", "while True: print('x' * 1000)", "output too large", script=True),
    Case("writes a little without end", "import time\nwhile True:\n    print('x', flush=True)\n    time.sleep(0.1)", "timed out", script=True),
    Case("a deep tree", "import os\ndef squares(n):\n    for _ in range(2000):\n        os.mkdir('d')\n        os.chdir('d')", "failed|crashed"),
    Case("a shut folder", "import os\ndef squares(n):\n    os.makedirs('a/b/c')\n    open('a/b/c/d', 'w').close()\n    os.chmod('a/b', 0)\n    os.chmod('.', 0o500)", "failed|forbidden"),
]  # fmt: skip

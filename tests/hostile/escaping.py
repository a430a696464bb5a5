# ruff: noqa: E501
"""Programs that want to touch what is not theirs. What they return holds ESCAPED if they could."""

from __future__ import annotations

from hostile import Case

_CALL = "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\ndef squares(n):\n    return 'ESCAPED' if libc.{} >= 0 else ctypes.get_errno()"
_DENIED = "failed|crashed|forbidden"
# Root's processes are not open to root without its privileges, which is what programs of root are.
NOT_AS_ROOT = ("reads its parent's memory", "reads the environment of the tests")

CASES = [
    Case("reads a file", "def squares(n): return 'ESCAPED' + open('@FILE@').read()", _DENIED, escapes=2),
    Case("reads a file by a link", "import os\ndef squares(n):\n    os.symlink('@FILE@', 'a')\n    return 'ESCAPED' + open('a').read()", _DENIED, escapes=2),
    Case("makes a file its own", "import os\ndef squares(n):\n    os.link('@FILE@', 'a')\n    return 'ESCAPED' + open('a').read()", _DENIED, escapes=2),
    Case("reads the users", "def squares(n): return 'ESCAPED' + open('/etc/passwd').read(9)", _DENIED, escapes=2),
    Case("lists a folder", "import os\ndef squares(n): return 'ESCAPED' + str(os.listdir('@FOLDER@'))", _DENIED, escapes=2),
    Case("asks whether a file is there", "import os\ndef squares(n): return 'ESCAPED' if os.path.exists('/etc/passwd') else 0", _DENIED, escapes=3),
    Case("goes up and out", "import os\ndef squares(n):\n    for _ in range(50): os.chdir('..')\n    return 'ESCAPED' + open('etc/passwd').read(9)", _DENIED, escapes=2),
    Case("writes a file", "def squares(n):\n    open('@FOLDER@/new', 'w').write('x')\n    return 'ESCAPED'", _DENIED, escapes=2),
    Case("removes a file", "import os\ndef squares(n):\n    os.unlink('@FOLDER@/victim')\n    return 'ESCAPED'", _DENIED, escapes=2),
    Case("shuts a file", "import os\ndef squares(n):\n    os.chmod('@FILE@', 0o644)\n    return 'ESCAPED'", _DENIED, escapes=2),
    Case("dates a file", "import os\ndef squares(n):\n    os.utime('@FILE@', (1, 1))\n    return 'ESCAPED'", _DENIED, escapes=2),
    Case("writes into the library", "import os\ndef squares(n):\n    open(os.path.dirname(os.__file__) + '/ra3_new', 'w').close()\n    return 'ESCAPED'", _DENIED, unsafe=2),
    Case("packages of others", "import os\ndef squares(n):\n    found = os.listdir(os.path.dirname(os.__file__) + '/site-packages')\n    return 'ESCAPED' if found else 0", _DENIED, escapes=3),
    Case("makes a device", "import os, stat\ndef squares(n):\n    os.mknod('d', stat.S_IFBLK | 0o600, os.makedev(254, 0))\n    return 'ESCAPED'", _DENIED, unsafe=1),
    Case("calls home", "import socket\ndef squares(n):\n    socket.create_connection(('127.0.0.1', @PORT@), 2).close()\n    return 'ESCAPED'", _DENIED, escapes=2),
    Case("listens", "import socket\ndef squares(n):\n    s = socket.socket()\n    s.bind(('127.0.0.1', 0))\n    s.listen()\n    return 'ESCAPED'", _DENIED, escapes=2),
    Case("sends datagrams", "import socket\ndef squares(n):\n    a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)\n    a.sendto(b'x', '@FOLDER@/log')\n    return 'ESCAPED'", _DENIED, escapes=2),
    Case("asks for a name", "import socket\ndef squares(n): return 'ESCAPED' + str(socket.getaddrinfo('localhost', 80))", _DENIED, escapes=2),
    Case("sees its parent", "import os\ndef squares(n):\n    os.kill(os.getppid(), 0)\n    return 'ESCAPED'", _DENIED, escapes=2),
    Case("kills its parent", "import os\ndef squares(n): os.kill(os.getppid(), 9)", "forbidden", unsafe=2),
    Case("kills everybody", "import os\ndef squares(n): os.kill(-1, 9)", "forbidden", unsafe=2),
    Case("signals the tests", "import os\ndef squares(n):\n    os.kill(@PID@, 0)\n    return 'ESCAPED'", _DENIED, escapes=2),
    Case("signals the tests by a pipe", "import fcntl, os\ndef squares(n):\n    r, w = os.pipe()\n    fcntl.fcntl(r, fcntl.F_SETOWN, @PID@)\n    return 'ESCAPED'", _DENIED, escapes=2),
    Case("lists the processes", "import os\ndef squares(n): return 'ESCAPED' if [one for one in os.listdir('/proc') if one.isdigit()] else 0", _DENIED, escapes=2),
    Case("reads its parent's memory", "import os\ndef squares(n): return 'ESCAPED' if open(f'/proc/{os.getppid()}/maps').read() else 0", _DENIED, escapes=2),
    Case("reads the environment of the tests", "def squares(n): return 'ESCAPED' if open('/proc/@PID@/environ', 'rb').read() else 0", _DENIED, escapes=2),
    Case("reads its own environment", "import os\ndef squares(n): return 'ESCAPED' if 'RA3_SECRET' in os.environ else sorted(os.environ)", "failed"),
    Case("forks", "import os\ndef squares(n):\n    if os.fork() == 0: os._exit(0)\n    return 'ESCAPED'", _DENIED, escapes=2),
    Case("starts a program", "import subprocess\ndef squares(n): return subprocess.run(['/bin/echo', 'ESCAPED'], capture_output=True, text=True).stdout", _DENIED, escapes=2),
    Case("starts a shell", "import os\ndef squares(n): return 'ESCAPED' if os.system('true') == 0 else 0", _DENIED, escapes=2),
    Case("becomes another program", "import os\ndef squares(n): os.execv('/bin/true', ['true'])", "forbidden|crashed"),
    Case("starts one quietly", "import os\ndef squares(n):\n    os.posix_spawn('/bin/true', ['true'], {})\n    return 'ESCAPED'", _DENIED, escapes=2),
    Case("outlives its time", "import os, time\ndef squares(n):\n    if os.fork() == 0:\n        os.setsid()\n        if os.fork() == 0:\n            time.sleep(3)\n            open('@FOLDER@/late', 'w').close()\n        os._exit(0)\n    return 'ESCAPED'", _DENIED, escapes=2),
    Case("forks without end", "import os\ndef squares(n):\n    while True: os.fork()", "forbidden", unsafe=2),
    Case("traces its parent", _CALL.format("ptrace(16, @PID@, 0, 0)"), _DENIED, escapes=0, unsafe=2),
    Case("makes a user namespace", _CALL.format("unshare(0x10000000)"), _DENIED, unsafe=2),
    Case("makes a process by hand", "import ctypes\nlibc = ctypes.CDLL(None)\ndef squares(n):\n    return 'ESCAPED' if libc.syscall(56, 17, 0, 0, 0, 0) >= 0 else 0", _DENIED, unsafe=2),
    Case("makes a process the new way", "import ctypes\nlibc = ctypes.CDLL(None)\ndef squares(n):\n    return 'ESCAPED' if libc.syscall(435, ctypes.create_string_buffer(88), 88) >= 0 else 0", _DENIED, unsafe=2),
    Case("calls as on another machine", "import ctypes\nlibc = ctypes.CDLL(None)\ndef squares(n):\n    return 'ESCAPED' if libc.syscall(0x40000000 + 57) >= 0 else 0", _DENIED, unsafe=2),
    Case("mounts", _CALL.format("mount(b'x', b'/tmp', b'tmpfs', 0, None)"), _DENIED, unsafe=2),
    Case("changes its root", _CALL.format("chroot(b'/tmp')"), _DENIED, unsafe=2),
    Case("becomes root", "import os\ndef squares(n):\n    os.setuid(0)\n    return 'ESCAPED'", _DENIED, unsafe=2),
    Case("rings", _CALL.format("syscall(425, 8, ctypes.create_string_buffer(120))"), _DENIED, unsafe=2),
    Case("asks for keys", _CALL.format("syscall(250, 0, -3, 1)"), _DENIED, unsafe=2),
    Case("shares memory", _CALL.format("shmget(0, 4096, 0o1600)"), _DENIED, unsafe=2),
    Case("makes files in memory", _CALL.format("memfd_create(b'x', 0)"), _DENIED, escapes=2),
    Case("more processor time", "import resource\ndef squares(n):\n    resource.setrlimit(resource.RLIMIT_CPU, (999, resource.RLIM_INFINITY))\n    return 'ESCAPED'", _DENIED, escapes=1),
    Case("less processor time", "import resource\nresource.setrlimit(resource.RLIMIT_CPU, (1, 1))\ndef squares(n):\n    while True: pass", "crashed|timed out"),
    Case("more filters", _CALL.format("syscall(317, 1, 0, None)"), _DENIED, unsafe=2),
    Case("kills itself without a word", "import os\ndef squares(n): os.kill(os.getpid(), 9)", "forbidden|crashed"),
]  # fmt: skip

"""Numbers of system calls: name, on x86_64, on aarch64 (- if it has none). From Linux's unistd.h, 6.1 and later."""

from __future__ import annotations

import os

# What the interpreter, the zygote and honest programs need.
_ALLOWED = """
read 0 63, write 1 64, close 3 57, fstat 5 80, lseek 8 62, mmap 9 222, mprotect 10 226, munmap 11 215, brk 12 214,
rt_sigaction 13 134, rt_sigprocmask 14 135, rt_sigreturn 15 139, ioctl 16 29, pread64 17 67, pwrite64 18 68,
readv 19 65, writev 20 66, preadv 295 69, pwritev 296 70, preadv2 327 286, pwritev2 328 287, sched_yield 24 124,
mremap 25 216, msync 26 227, mincore 27 232, madvise 28 233, dup 32 23, dup3 292 24, nanosleep 35 101,
getitimer 36 102, setitimer 38 103, getpid 39 172, sendto 44 206, recvfrom 45 207, sendmsg 46 211, recvmsg 47 212,
sendmmsg 307 269, recvmmsg 299 243, shutdown 48 210, getsockname 51 204, getpeername 52 205, socketpair 53 199,
setsockopt 54 208, getsockopt 55 209, exit 60 93, exit_group 231 94, uname 63 160, fcntl 72 25, flock 73 32,
fsync 74 82, fdatasync 75 83, truncate 76 45, ftruncate 77 46, getcwd 79 17, chdir 80 49, fchdir 81 50,
umask 95 166, gettimeofday 96 169, getrlimit 97 163, getrusage 98 165, sysinfo 99 179, times 100 153,
getuid 102 174, getgid 104 176, geteuid 107 175, getegid 108 177, getppid 110 173, getpgid 121 155, getsid 124 156,
getgroups 115 158, getresuid 118 148, getresgid 120 150, rt_sigpending 127 136, rt_sigtimedwait 128 137,
rt_sigsuspend 130 133, sigaltstack 131 132, statfs 137 43, fstatfs 138 44, gettid 186 178, futex 202 98,
futex_waitv 449 449, sched_getaffinity 204 123, sched_getscheduler 145 120, sched_get_priority_max 146 125,
sched_get_priority_min 147 126, sched_rr_get_interval 148 127, set_tid_address 218 96, set_robust_list 273 99,
get_robust_list 274 100, restart_syscall 219 128, fadvise64 221 223, clock_gettime 228 113, clock_getres 229 114,
clock_nanosleep 230 115, epoll_create1 291 20, epoll_ctl 233 21, epoll_pwait 281 22, epoll_pwait2 441 441,
openat 257 56, mkdirat 258 34, newfstatat 262 79, unlinkat 263 35, renameat 264 38, renameat2 316 276,
linkat 265 37, symlinkat 266 36, readlinkat 267 78, faccessat 269 48, faccessat2 439 439, pselect6 270 72,
ppoll 271 73, fallocate 285 47, eventfd2 290 19, pipe2 293 59, getrandom 318 278, statx 332 291, rseq 334 293,
membarrier 324 283, copy_file_range 326 285, splice 275 76, tee 276 77, sendfile 40 71, getdents64 217 61,
close_range 436 436, getcpu 309 168, wait4 61 260, waitid 247 95, prlimit64 302 261, setrlimit 160 164,
kill 62 129, tgkill 234 131, clone 56 220, prctl 157 167, seccomp 317 277, sync_file_range 277 84,
readahead 187 213, pidfd_open 434 434, cachestat 451 451, getpriority 140 141, open 2 -, stat 4 -, lstat 6 -,
poll 7 -, access 21 -, pipe 22 -, select 23 -, dup2 33 -, alarm 37 -, getpgrp 111 -, rename 82 -, mkdir 83 -,
rmdir 84 -, creat 85 -, link 86 -, unlink 87 -, symlink 88 -, readlink 89 -, getdents 78 -, epoll_create 213 -,
epoll_wait 232 -, eventfd 284 -, time 201 -, arch_prctl 158 -, pause 34 -
"""
# Change a file's mode or times, which Landlock does not forbid: only where nothing else can be seen.
_MODES = """
fchmod 91 52, fchmodat 268 53, fchmodat2 452 452, utimensat 280 88, chmod 90 -, utime 132 -, utimes 235 -,
futimesat 261 -
"""
# No honest program asks for these: it ends at once. What is in no list does not exist (ENOSYS).
_FORBIDDEN = """
ptrace 101 117, process_vm_readv 310 270, process_vm_writev 311 271, process_madvise 440 440, execve 59 221,
execveat 322 281, socket 41 198, connect 42 203, bind 49 200, listen 50 201, accept 43 202, accept4 288 242,
mount 165 40, umount2 166 39, pivot_root 155 41, chroot 161 51, setns 308 268, unshare 272 97, bpf 321 280,
perf_event_open 298 241, keyctl 250 219, add_key 248 217, request_key 249 218, io_uring_setup 425 425,
io_uring_enter 426 426, io_uring_register 427 427, kexec_load 246 104, kexec_file_load 320 294,
init_module 175 105, finit_module 313 273, delete_module 176 106, reboot 169 142, swapon 167 224, swapoff 168 225,
userfaultfd 323 282, tkill 200 130, rt_sigqueueinfo 129 138, rt_tgsigqueueinfo 297 240, pidfd_send_signal 424 424,
pidfd_getfd 438 438, move_mount 429 429, open_tree 428 428, fsopen 430 430, fsmount 432 432, fsconfig 431 431,
fspick 433 433, mount_setattr 442 442, name_to_handle_at 303 264, open_by_handle_at 304 265, setuid 105 146,
setgid 106 144, setreuid 113 145, setregid 114 143, setresuid 117 147, setresgid 119 149, setgroups 116 159,
setfsuid 122 151, setfsgid 123 152, capset 126 91, sethostname 170 161, setdomainname 171 162,
settimeofday 164 170, clock_settime 227 112, adjtimex 159 171, clock_adjtime 305 266, acct 163 89, quotactl 179 60,
mknodat 259 33, fanotify_init 300 262, fanotify_mark 301 263, syslog 103 116, vhangup 153 58,
lookup_dcookie 212 18, kcmp 312 272, personality 135 92, shmget 29 194, shmat 30 196, shmctl 31 195, shmdt 67 197,
semget 64 190, semop 65 193, semctl 66 191, semtimedop 220 192, msgget 68 186, msgsnd 69 189, msgrcv 70 188,
msgctl 71 187, mq_open 240 180, mq_unlink 241 181, memfd_secret 447 447, nfsservctl 180 42, fork 57 -, vfork 58 -,
mknod 133 -, modify_ldt 154 -, iopl 172 -, ioperm 173 -, uselib 134 -, create_module 174 -, _sysctl 156 -
"""
# What only the sandbox itself calls, before the filter is there.
_OWN = """
landlock_create_ruleset 444 444, landlock_add_rule 445 445, landlock_restrict_self 446 446
"""
_COLUMN = {"x86_64": 1, "aarch64": 2}.get(os.uname().machine)


def _numbers(table: str) -> dict[str, int]:
    """Of this machine."""
    rows = [row.split() for row in table.split(",")]
    return {row[0]: int(row[_COLUMN]) for row in rows if _COLUMN and row[_COLUMN] != "-"}


KNOWN = _COLUMN is not None
ALLOWED, MODES, FORBIDDEN = _numbers(_ALLOWED), _numbers(_MODES), _numbers(_FORBIDDEN)
NUMBERS = {**ALLOWED, **MODES, **FORBIDDEN, **_numbers(_OWN)}

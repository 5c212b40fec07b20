"""What stands between our process and restic: confines itself, then becomes restic.

Problem: some things can only be done by the child itself before it runs restic: enter a directory
that is known only by descriptor, give up access to everything else (Landlock), ask to die with its
parent, be the kernel's first choice when memory runs out.
Decision: a script on the standard library alone, run as ``python -I -S launch.py SPEC PROGRAM
ARGUMENT…`` (about 20 ms). Doing the same between fork and exec (``preexec_fn``) is not safe in a
process that has threads. SPEC is JSON: ``parent`` (its process id), ``directory`` (a descriptor),
``rules`` (a list of [kind, path or descriptor], or null for no confinement), ``oom_score``,
``niceness`` (added to ours) and ``io_priority`` (one of ``IO_PRIORITIES``), each of them or null.
Limits: Landlock does not cover chmod, chown, times and xattrs of paths, nor connecting to a
socket that has a path. Exit code 125 means that the launcher itself failed, with one line on
stderr; Landlock that was asked for and cannot be had is such a failure.
"""

import ctypes
import json
import os
import resource
import signal
import stat
import sys

FAILED = 125

# linux/prctl.h
_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38
# asm-generic/unistd.h: the same numbers on every architecture
_CREATE_RULESET = 444
_ADD_RULE = 445
_RESTRICT_SELF = 446
_RULE_PATH_BENEATH = 1
_CREATE_RULESET_VERSION = 1

# linux/landlock.h, LANDLOCK_ACCESS_FS_*
_EXECUTE = 1 << 0
_WRITE_FILE = 1 << 1
_READ_FILE = 1 << 2
_READ_DIR = 1 << 3
_REMOVE_DIR = 1 << 4
_REMOVE_FILE = 1 << 5
_MAKE_CHAR = 1 << 6
_MAKE_DIR = 1 << 7
_MAKE_REG = 1 << 8
_MAKE_SOCK = 1 << 9
_MAKE_FIFO = 1 << 10
_MAKE_BLOCK = 1 << 11
_MAKE_SYM = 1 << 12
_REFER = 1 << 13
_TRUNCATE = 1 << 14
_IOCTL_DEV = 1 << 15
_OF_A_FILE = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV

_READ = _READ_FILE | _READ_DIR
_WORK = (
    _READ | _WRITE_FILE | _REMOVE_DIR | _REMOVE_FILE | _MAKE_DIR | _MAKE_REG | _REFER | _TRUNCATE
)
KINDS = {
    "read": _READ,
    "execute": _READ | _EXECUTE,
    # Our own scratch and cache: ordinary files and directories.
    "work": _WORK,
    # A volume that is restored: whatever a file system can hold, except sockets.
    "restore": _WORK | _MAKE_CHAR | _MAKE_FIFO | _MAKE_BLOCK | _MAKE_SYM,
}


# linux/ioprio.h: the class in the upper bits, the level (7 is the last) in the lower 13.
IO_PRIORITIES = {"low": 2 << 13 | 7, "idle": 3 << 13}
_IOPRIO_WHO_PROCESS = 1
#: ioprio_set(2) is older than the numbers that all architectures share.
_IOPRIO_SET = {"x86_64": 251, "aarch64": 30}


class _RulesetAttr(ctypes.Structure):
    _fields_ = (("fs", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _PathBeneathAttr(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32))


def handled(abi: int) -> tuple[int, int, int, int]:
    """What a kernel of this Landlock version can restrict: (files, TCP, scopes, struct size)."""
    files = {1: 1 << 13, 2: 1 << 14, 3: 1 << 15, 4: 1 << 15}.get(abi, 1 << 16) - 1
    # restic speaks to one unix socket: no TCP at all, and no abstract sockets of other processes.
    return (
        files,
        3 if abi >= 4 else 0,
        1 if abi >= 6 else 0,
        8 if abi < 4 else 16 if abi < 6 else 24,
    )


def landlock_abi() -> int:
    """The kernel's Landlock version; 0 where it has none or it is switched off."""
    libc = ctypes.CDLL(None, use_errno=True)
    found = libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _CREATE_RULESET_VERSION)
    return max(0, int(found))


def confine(rules: list[list[str | int]]) -> None:
    """Give up every file access that no rule allows. Missing paths are skipped."""
    libc = ctypes.CDLL(None, use_errno=True)
    abi = landlock_abi()
    if not abi:
        raise OSError(0, "this kernel has no Landlock")
    files, net, scoped, size = handled(abi)
    attr = _RulesetAttr(files, net, scoped)
    ruleset = libc.syscall(_CREATE_RULESET, ctypes.byref(attr), ctypes.c_size_t(size), 0)
    _check(ruleset, "landlock_create_ruleset")
    for kind, place in rules:
        try:
            opened = place if isinstance(place, int) else os.open(place, os.O_PATH | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        allowed = KINDS[str(kind)] & files
        if not stat.S_ISDIR(os.fstat(opened).st_mode):
            allowed &= _OF_A_FILE
        beneath = _PathBeneathAttr(allowed, opened)
        added = libc.syscall(_ADD_RULE, ruleset, _RULE_PATH_BENEATH, ctypes.byref(beneath), 0)
        _check(added, f"landlock_add_rule {place}")
    _check(libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "PR_SET_NO_NEW_PRIVS")
    _check(libc.syscall(_RESTRICT_SELF, ruleset, 0), "landlock_restrict_self")
    os.close(ruleset)


def yield_disk(priority: str) -> None:
    """Let others go first on the disk, where its I/O scheduler knows priorities."""
    number = _IOPRIO_SET.get(os.uname().machine)
    if number is None:
        raise OSError(0, f"I/O priorities are not known on {os.uname().machine}")
    libc = ctypes.CDLL(None, use_errno=True)
    _check(libc.syscall(number, _IOPRIO_WHO_PROCESS, 0, IO_PRIORITIES[priority]), "ioprio_set")


def leave_no_core_dump() -> None:
    """It would hold the repository's password.

    The kernel does not apply a limit of 0 where core dumps go to a program (core(5)), as they do on
    nodes with systemd or apport. A limit of 1 it takes there for a crash of that program itself,
    and dumps nothing; for a file one byte is too little.
    """
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    limit = 0 if hard == 0 else 1  # who has given up the right to more does not get it back
    resource.setrlimit(resource.RLIMIT_CORE, (limit, limit))


def main(arguments: list[str]) -> None:
    spec = json.loads(arguments[0])
    libc = ctypes.CDLL(None, use_errno=True)
    _check(libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0), "PR_SET_PDEATHSIG")
    if os.getppid() != spec["parent"]:
        raise OSError(0, "the parent is gone already")
    leave_no_core_dump()
    if spec.get("oom_score") is not None:
        with open("/proc/self/oom_score_adj", "w") as handle:
            handle.write(str(spec["oom_score"]))
    if spec.get("niceness"):
        os.nice(spec["niceness"])
    if spec.get("io_priority") is not None:
        yield_disk(spec["io_priority"])
    directory = spec.get("directory")
    if directory is not None:
        os.fchdir(directory)
        os.set_inheritable(directory, False)
    if spec.get("rules") is not None:
        confine(spec["rules"])
    # Set by this interpreter itself where the environment names no locale (PEP 538).
    os.environ.pop("LC_CTYPE", None)
    os.execv(arguments[1], arguments[1:])  # noqa: S606 - that is its purpose


def _check(result: int, what: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except Exception as exc:  # noqa: BLE001 - one line for whoever reads the log, then the end
        sys.stderr.write(f"launch: {exc}\n")
        sys.exit(FAILED)

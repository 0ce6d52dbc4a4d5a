"""Starts one program in a session of its own and ends it when the kubelet goes away.

Usage: shim.py CONTROL_FD STDIN_FD STDOUT_FD STDERR_FD TTY -- ARGV...   (a file descriptor of -1 means /dev/null;
TTY is 1 when STDIN_FD is the slave of a pseudo-terminal).

CONTROL_FD is one end of a socket pair. When the other end closes, however its owner died, the program and all its
descendants are killed. Over it the shim reports one line of JSON when the program has started (`{"pid": 7}`) or could
not be (`{"failed": "..."}`), and one when it has ended (`{"code": 0}` or `{"signal": 9}`).

Standard library only: this runs once per container under `python -I -S`.
"""

import contextlib
import errno
import json
import os
import select
import signal
import socket
import sys

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


def prctl(option: int, value: int) -> None:
    """Linux only: elsewhere the control socket alone does the work."""
    if not sys.platform.startswith("linux"):
        return
    try:
        import ctypes  # noqa: PLC0415 - only Linux pays for loading it

        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)
    except (ImportError, OSError, AttributeError):
        return


def descendants(root: int) -> "list[int]":
    """Processes below `root`, by /proc; empty where there is none."""
    parents: dict[int, int] = {}
    try:
        names = os.listdir("/proc")  # noqa: PTH208 - pathlib is not worth loading here
    except OSError:
        return []
    for name in names:
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:  # noqa: PTH123 - as above
                    fields = file.read().rpartition(b")")[2].split()
                parents[int(name)] = int(fields[1])
            except (OSError, IndexError, ValueError):
                continue
    found: list[int] = []
    wanted = [root]
    while wanted:
        parent = wanted.pop()
        below = [pid for pid, ppid in parents.items() if ppid == parent]
        found += below
        wanted += below
    return found


def kill_everything(pgid: int) -> None:
    """SIGKILL to the program's process group and to whatever left it."""
    for _ in range(3):
        with contextlib.suppress(OSError):
            os.killpg(pgid, signal.SIGKILL)
        below = descendants(os.getpid())
        if not below:
            return
        for pid in below:
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                continue
        reap_all()


def reap_all() -> None:
    """Collect dead children without waiting."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return


def become(argv: "list[str]", fds: "list[int]", tty: bool, shim: int) -> None:
    """In the child: new session, terminal, standard streams, then the program."""
    os.setsid()
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != shim:
        os._exit(137)
    null = os.open(os.devnull, os.O_RDWR)
    for target, fd in enumerate(fds):
        os.dup2(fd if fd >= 0 else null, target)
    for fd in {null, *fds} - {0, 1, 2, -1}:
        os.close(fd)
    if tty:
        import fcntl  # noqa: PLC0415 - only terminals need it
        import termios  # noqa: PLC0415 - only terminals need it

        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    for number in (signal.SIGPIPE, signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    os.execvpe(argv[0], argv, os.environ)


def start(argv: "list[str]", fds: "list[int]", tty: bool) -> "tuple[int, str]":
    """Fork and exec; the pid, and why it failed or ""."""
    reader, writer = os.pipe()  # close-on-exec: it is empty when exec succeeded
    shim = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            become(argv, fds, tty, shim)
        except BaseException as error:
            text = f'exec: "{argv[0]}": executable file not found in $PATH'
            if not (isinstance(error, OSError) and error.errno == errno.ENOENT and "/" not in argv[0]):
                text = f'exec: "{argv[0]}": {getattr(error, "strerror", None) or error}'
            os.write(writer, text.encode())
        finally:
            os._exit(127)
    os.close(writer)
    reason = b""
    while chunk := os.read(reader, 4096):
        reason += chunk
    os.close(reader)
    if reason:
        os.waitpid(pid, 0)
    return pid, reason.decode("utf-8", "replace")


def tell(control: socket.socket, **message: object) -> None:
    try:
        control.sendall(json.dumps(message).encode() + b"\n")
    except OSError:
        return


def watch(control: socket.socket, pid: int) -> "int | None":
    """Wait for the program's end or the kubelet's; the wait status, or None when the kubelet is gone."""
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    while True:
        try:
            done, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return None
        if done == pid:
            return status
        if done:
            continue
        ready, _, _ = select.select([control.fileno(), wake_read], [], [])
        if wake_read in ready:
            os.read(wake_read, 4096)
        if control.fileno() in ready and not control.recv(4096):
            return None


def main(arguments: "list[str]") -> int:
    split = arguments.index("--")
    control_fd, *fds, tty = (int(word) for word in arguments[:split])
    control = socket.socket(fileno=control_fd)
    control.set_inheritable(False)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    pid, failure = start(arguments[split + 1 :], fds, bool(tty))
    for fd in {fd for fd in fds if fd >= 0}:
        os.close(fd)
    if failure:
        tell(control, failed=failure)
        return 127
    tell(control, pid=pid)
    status = watch(control, pid)
    kill_everything(pid)
    if status is None:
        return 137
    if os.WIFSIGNALED(status):
        tell(control, signal=os.WTERMSIG(status))
    else:
        tell(control, code=os.WEXITSTATUS(status))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Several hosts on this machine, for tests of real clusters: each has a network, processes, memory and a home of its own.

A host is a set of Linux namespaces (net, pid, mount, uts, ipc) with an sshd as its first process. All of them hang on a
bridge that lies in a namespace too, so nothing of this machine's network is touched and any addresses are free. They share
the disk: folders that all of them see need no NFS. Needs root, and the Debian packages of `missing`.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_NETWORK = "10.77.0"
_POLL_SECONDS, _START_SECONDS, _END_SECONDS = 0.2, 60.0, 120.0
_TOOLS = {"sshd": "openssh-server", "ssh": "openssh-client", "rsync": "rsync", "ip": "iproute2"}
_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# The home of root is private to each host; /root stays where it is, Python may lie in it. The hosts know each other by name, and ask
# nobody for others: a server for names that does not answer would cost half a minute each time.
_INIT = """
set -eu
read -r _
hostname {name}
ip link set lo up
ip link set eth0 up
ip address add {address}/24 dev eth0
ip route add default via {network}.1
mount --bind {folder}/passwd /etc/passwd
mount --bind {names} /etc/hosts
mount --bind /dev/null /etc/resolv.conf
mount -t tmpfs tmpfs /run
mkdir -p /run/sshd
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs -o mode=1777 tmpfs {folder}/tmp
{binds}
mount --move {folder}/tmp /tmp
exec {sshd} -D -e -f {folder}/sshd_config
"""
_SSHD = """
Port 22
ListenAddress {address}
HostKey {folder}/host_key
AuthorizedKeysFile {keys}
PermitRootLogin prohibit-password
PasswordAuthentication no
StrictModes no
UsePAM no
PidFile none
"""


def missing() -> str:
    """Say what keeps hosts from being made here; "": nothing does."""
    if os.geteuid() != 0:
        return "needs root"
    packages = sorted({package for tool, package in _TOOLS.items() if not _tool(tool)})
    if packages:
        return f"needs the packages {' '.join(packages)}"
    words = ["unshare", "--net", "--mount", "--pid", "--fork", "true"]
    tried = subprocess.run(words, capture_output=True, text=True)
    return f"no namespaces can be made here: {tried.stderr.strip()}" if tried.returncode else ""


def until(what: str, done: Callable[[], object], seconds: float) -> float:
    """Wait for something; returns how long it took in seconds.

    Raises:
        AssertionError: it did not come within that time.
    """
    began = time.monotonic()
    while not done():
        assert time.monotonic() - began < seconds, f"{what}: not within {seconds:g} s"
        time.sleep(_POLL_SECONDS)
    return time.monotonic() - began


@dataclass
class Host:
    """One machine.

    Attributes:
        name: of the machine, as its `hostname` says.
        address: in the network of the hosts.
        folder: of its home and its sshd; outlives the end of the machine, as a disk does.
        key: that lets in by SSH.
        init: the process that all others of it end with; None: the machine is off.
        clients: of its SSH, one for each line that was started on it.
        first: the number of its first process, as this machine counts; when it is gone, all others are.
    """

    name: str
    address: str
    folder: Path
    key: Path
    switch: int
    init: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    first: int = 0
    clients: list[subprocess.Popen[str]] = field(default_factory=list, repr=False)

    @property
    def link(self) -> str:
        """The end of its cable at the bridge."""
        return f"to-{self.name}"

    def command(self, line: str) -> list[str]:
        """Return the words that run a line on the host, over its own SSH, from the bridge."""
        options = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR",
                   "-o", "ConnectTimeout=5", "-o", "ServerAliveInterval=5", "-o", "IdentitiesOnly=yes",
                   "-i", str(self.key)]  # fmt: skip
        return [*_inside(self.switch), "ssh", *options, f"root@{self.address}", line]

    def run(self, line: str, *, seconds: float = 120, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a line of shell on the host."""
        done = subprocess.run(self.command(line), capture_output=True, text=True, timeout=seconds)
        told = f"{self.name}$ {line}\n{done.stdout}{done.stderr}"
        assert not check or done.returncode == 0, f"exit code {done.returncode}: {told}"
        return done

    def start(self, line: str, log: Path) -> subprocess.Popen[str]:
        """Start a line of shell on the host; what it says goes to a file."""
        words = [*_ends_with_us(), *self.command(line)]
        with log.open("w") as file:
            client = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, text=True)
        self.clients.append(client)
        return client

    def cut_off(self) -> None:
        """Pull its cable: its processes live on, and nobody hears of them."""
        _ip(self.switch, f"link set {self.link} down")

    def reconnect(self) -> None:
        """Plug its cable in again."""
        _ip(self.switch, f"link set {self.link} up")

    def kill(self) -> None:
        """Switch it off as a power cut does: nobody gets as much as the end of a connection."""
        if self.init is None:
            return
        self.cut_off()
        for client in self.clients:  # each waits for answers of this host
            client.kill()
            client.wait()
        self.clients.clear()
        self.init.kill()  # the kernel ends the first process of the host with it, and all others with that
        self.init.wait()
        self.init = None
        until(f"the end of {self.name}", lambda: not Path(f"/proc/{self.first}").exists(), _END_SECONDS)
        delete, show = ([*_inside(self.switch), "ip", "link", what, self.link] for what in ("delete", "show"))
        subprocess.run(delete, capture_output=True)  # the kernel, which does so in its own time, may have been faster
        until(f"the end of {self.link}", lambda: subprocess.run(show, capture_output=True).returncode, _END_SECONDS)


class Hosts(contextlib.AbstractContextManager["Hosts"]):
    """Machines on one network, for the time of the block.

    Args:
        folder: for their homes and keys; is made.
        names: of the machines; each at most 10 characters.
        binds: what all of them see, by the path that they see it at: {"/shared": folder}; all below the first one.
        kept: folders that stay as they are, also where they lie below /tmp (of which each host has its own).
    """

    def __init__(self, folder: Path, names: Sequence[str], binds: Mapping[str, Path], kept: Sequence[Path]) -> None:
        self.folder, self._names, self._binds = folder, names, dict(binds)
        self._kept = [folder, *kept]
        self.key = folder / "id"
        self._by_name: dict[str, Host] = {}
        self._switch: subprocess.Popen[bytes] | None = None
        # Held by all hosts of all tests that run now; in it, the folders that they made in the root of this machine.
        self._made = Path(tempfile.gettempdir(), "lossgrid-hosts.lock").open("a+")

    def __enter__(self) -> Hosts:
        self.folder.mkdir(parents=True)
        try:
            self._lay_network()
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.key)], check=True)
            addresses = {name: f"{_NETWORK}.{10 + number}" for number, name in enumerate(self._names)}
            lines = ["127.0.0.1 localhost", *(f"{address} {name}" for name, address in addresses.items())]
            (self.folder / "names").write_text("\n".join(lines) + "\n")
            for name, address in addresses.items():
                self._add(name, address)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.ExitStack() as stack:  # each is ended, whatever becomes of the others
            stack.enter_context(self._made)
            stack.callback(self._remove_folders)
            if self._switch is not None:
                stack.callback(self._switch.wait)
                stack.callback(self._switch.kill)
            for host in self._by_name.values():
                stack.callback(host.kill)

    def __getitem__(self, name: str) -> Host:
        return self._by_name[name]

    def boot(self, host: Host) -> None:
        """Switch a machine on (again): its disk is as it was, its memory, /tmp and processes are gone."""
        binds = [f"mkdir -p {to}; mount --rbind {shlex.quote(str(what))} {to}" for to, what in self._binds.items()]
        for path in self._kept:
            if path.is_relative_to("/tmp"):
                there = shlex.quote(f"{host.folder}/tmp/{path.relative_to('/tmp')}")
                binds.append(f"mkdir -p {there}; mount --rbind {shlex.quote(str(path))} {there}")
        script = _INIT.format(
            name=host.name, address=host.address, network=_NETWORK, folder=host.folder, binds="\n".join(binds),
            names=self.folder / "names",
            sshd=_tool("sshd"),
        )  # fmt: skip
        namespaces = ["--net", "--pid", "--mount", "--mount-proc", "--uts", "--ipc", "--kill-child"]
        with (host.folder / "console.txt").open("ab") as console:
            host.init = subprocess.Popen(
                [*_ends_with_us(), "unshare", *namespaces, "sh", "-c", script], env={"PATH": _SYSTEM_PATH},
                stdin=subprocess.PIPE, stdout=console, stderr=console, cwd="/",
            )  # fmt: skip
        host.first = _first_child(host.init)
        _ip(host.switch, f"link add {host.link} type veth peer name eth0 netns {host.first}")
        _ip(host.switch, f"link set {host.link} master bridge up")
        assert host.init.stdin is not None
        host.init.stdin.write(b"go\n")
        host.init.stdin.close()
        until(f"SSH of {host.name}", lambda: host.run("true", check=False).returncode == 0, _START_SECONDS)

    def _lay_network(self) -> None:
        self._switch = subprocess.Popen([*_ends_with_us(), "unshare", "--net", "sleep", "infinity"])
        number, here = self._switch.pid, os.readlink("/proc/self/ns/net")
        until("a network", lambda: os.readlink(f"/proc/{number}/ns/net") != here, _START_SECONDS)
        for words in ("link set lo up", "link add bridge type bridge", f"address add {_NETWORK}.1/24 dev bridge",
                      "link set bridge up"):  # fmt: skip
            _ip(number, words)
        first = Path(next(iter(self._binds)))
        fcntl.flock(self._made, fcntl.LOCK_SH)
        for folder in reversed([first, *first.parents]):
            with contextlib.suppress(FileExistsError):  # other hosts may make it just now
                folder.mkdir()
                print(folder, file=self._made, flush=True)

    def _remove_folders(self) -> None:
        """Remove what was made in the root, unless others use it: the kernel would take it from under their hosts."""
        try:
            fcntl.flock(self._made, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        self._made.seek(0)
        for folder in reversed([Path(line) for line in self._made.read().splitlines()]):
            if folder.is_dir() and not any(folder.iterdir()):  # empty outside of the hosts
                folder.rmdir()
        self._made.truncate(0)

    def _add(self, name: str, address: str) -> None:
        assert self._switch is not None
        folder = self.folder / name
        (folder / "home").mkdir(parents=True)
        (folder / "tmp").mkdir()
        accounts = Path("/etc/passwd").read_text().splitlines()
        of_root = f"root:x:0:0:root:{folder}/home:/bin/bash"
        lines = [of_root if line.startswith("root:") else line for line in accounts]
        (folder / "passwd").write_text("\n".join(lines) + "\n")
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / "host_key")], check=True)
        keys = self.key.with_suffix(".pub")
        (folder / "sshd_config").write_text(_SSHD.format(address=address, folder=folder, keys=keys))
        host = Host(name, address, folder, self.key, self._switch.pid)
        self._by_name[name] = host
        self.boot(host)


def _tool(name: str) -> str | None:
    return shutil.which(name, path=_SYSTEM_PATH)


def _ends_with_us() -> list[str]:
    """Whatever becomes of the test, what it started ends with it."""
    return ["setpriv", "--pdeathsig", "KILL"]


def _inside(process: int) -> list[str]:
    return ["nsenter", "--target", str(process), "--net"]


def _ip(process: int, words: str) -> None:
    subprocess.run([*_inside(process), "ip", *words.split()], check=True)


def _first_child(process: subprocess.Popen[bytes]) -> int:
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    until("a new machine", lambda: process.poll() is not None or children.read_text().split(), _START_SECONDS)
    (child,) = map(int, children.read_text().split())
    here = os.readlink("/proc/self/ns/net")
    until("its network", lambda: os.readlink(f"/proc/{child}/ns/net") != here, _START_SECONDS)
    return child

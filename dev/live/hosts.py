# SPDX-License-Identifier: Apache-2.0
"""
Several hosts on one Linux machine, each a network namespace of its own, and cuts between them.

The process that makes them leaves the machine's network for a new one, in which the hosts' bridge lies. So
nothing of the machine's own network is touched, and what the process starts from then on lives in there.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from typing import Self

_CLONE_NEWNET = 0x40000000
_NETWORK = "10.77.0"
_BRIDGE = "bridge"
_TOOLS = {"ip": "iproute2", "nft": "nftables"}


def missing() -> str | None:
    """Return in a sentence what keeps this machine from having hosts; None if nothing does."""
    if os.uname().sysname != "Linux" or os.geteuid() != 0:
        return "Hosts of their own need Linux's network namespaces, and root to make them."
    absent = [package for tool, package in _TOOLS.items() if shutil.which(tool) is None]
    return f"apt-get install {' '.join(absent)}: hosts of their own need it." if absent else None


class Hosts:
    """
    A context manager: the hosts are there inside the block.

    :param names: of the hosts; this process is one more, and reaches all of them.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._addresses = {name: f"{_NETWORK}.{number}" for number, name in enumerate(names, 1)}
        self._tag = f"chaos{os.getpid()}"

    def __enter__(self) -> Self:
        """Make them."""
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(_CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "no new network namespace: root is needed")
        for line in (
            "link set lo up",
            f"link add {_BRIDGE} type bridge",
            f"addr add {_NETWORK}.254/24 dev {_BRIDGE}",
            f"link set {_BRIDGE} up",
        ):
            _run("ip", *line.split())
        try:
            for number, (name, address) in enumerate(self._addresses.items(), 1):
                self._add(self._namespace(name), f"host{number}", address)
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Remove them; the network of this process goes with it."""
        self.remove()

    def _add(self, namespace: str, cable: str, address: str) -> None:
        _run("ip", "netns", "add", namespace)
        line = f"link add {cable} type veth peer name eth0 netns {namespace}"
        _run("ip", *line.split())
        _run("ip", "link", "set", cable, "master", _BRIDGE, "up")
        inside = ("ip", "-netns", namespace)
        _run(*inside, "link", "set", "lo", "up")
        _run(*inside, "addr", "add", f"{address}/24", "dev", "eth0")
        _run(*inside, "link", "set", "eth0", "up")

    def remove(self) -> None:
        """Remove those that there are."""
        for name in self._addresses:
            quiet = subprocess.DEVNULL
            subprocess.run(["ip", "netns", "del", self._namespace(name)], check=False, stderr=quiet)  # noqa: S603, S607 - our own

    def address(self, name: str) -> str:
        """Return the address of a host."""
        return self._addresses[name]

    def command(self, name: str, command: Sequence[str]) -> tuple[str, ...]:
        """Return the command that runs another one on a host; its process id is that of the other one."""
        return ("ip", "netns", "exec", self._namespace(name), *command)

    def cut(self, name: str, others: Iterable[str] = ()) -> None:
        """
        Drop every packet between a host and others, without a word to either.

        :param others: all of them, this process included, if none is named.
        """
        addresses = ", ".join(map(self.address, others)) or f"{_NETWORK}.0/24"
        rules = f"""table ip cut {{
            chain out {{
                type filter hook output priority 0;
                ip daddr {{ {addresses} }} drop;
            }}
            chain in {{
                type filter hook input priority 0;
                ip saddr {{ {addresses} }} drop;
            }}
        }}
        """
        _run(*self.command(name, ("nft", "-f", "-")), given=rules)

    def restore(self, name: str) -> None:
        """Let every packet of a host pass again."""
        _run(*self.command(name, ("nft", "flush", "ruleset")))

    def _namespace(self, name: str) -> str:
        return f"{self._tag}-{name}"


def _run(*command: str, given: str = "") -> None:
    subprocess.run(command, check=True, input=given, text=True, stdout=subprocess.DEVNULL)  # noqa: S603 - our own

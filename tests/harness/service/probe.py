"""Tries what the unit forbids, from inside the service, and writes what happened: {"name": "allowed" | "refused"}.

Runs as a program of its own in the container; it may import nothing but the standard library.
"""

import json
import mmap
import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Callable


def write(path: str) -> None:
    with open(os.path.join(path, "written-by-probe"), "w") as file:
        file.write("x")


def sees_other_processes() -> None:
    os.stat("/proc/1")
    os.kill(1, 0)


def run(*command: str) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def make_setuid() -> None:
    path = os.path.join(os.environ["STATE_DIRECTORY"], "setuid")
    with open(path, "w"):
        pass
    os.chmod(path, 0o4755)


PROBES: dict[str, Callable[[], object]] = {
    "write /etc": lambda: write("/etc"),
    "write /etc/order-gateway": lambda: write("/etc/order-gateway"),
    "write /opt/order-gateway": lambda: write("/opt/order-gateway"),
    "write /usr": lambda: write("/usr"),
    "write /var/lib": lambda: write("/var/lib"),
    "read /root": lambda: os.listdir("/root"),
    "read /etc/shadow": lambda: open("/etc/shadow").close(),
    "read the credentials folder": lambda: os.listdir("/etc/order-gateway/credentials"),
    "user namespace": lambda: run("unshare", "--user", "true"),
    "network namespace": lambda: run("unshare", "--net", "true"),
    "mount": lambda: run("mount", "-t", "tmpfs", "tmpfs", "/mnt"),
    "AF_PACKET": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close(),
    "AF_NETLINK": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close(),
    "other processes": sees_other_processes,
    "/dev/kmsg": lambda: open("/dev/kmsg", "rb", buffering=0).close(),
    "W+X memory": lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC).close(),
    "setuid file": make_setuid,
    "realtime": lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)),
    "host name": lambda: socket.sethostname(socket.gethostname()),
    "clock": lambda: time.clock_settime(time.CLOCK_REALTIME, time.time()),
    "personality": lambda: run("setarch", "-R", "true"),
    "core dumps": lambda: resource.setrlimit(resource.RLIMIT_CORE, (1, 1)),
    "its own folder": lambda: write(os.environ["STATE_DIRECTORY"]),
    "TCP": lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM).close(),
}


def outcome(probe: Callable[[], object]) -> str:
    try:
        probe()
    except (OSError, ValueError, subprocess.CalledProcessError):
        return "refused"
    return "allowed"


if __name__ == "__main__":
    found: dict[str, object] = {name: outcome(probe) for name, probe in PROBES.items()}
    with open("/proc/self/status") as file:
        status = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
    found["status"] = {name: status[name] for name in ("CapEff", "CapBnd", "CapPrm", "NoNewPrivs", "Seccomp")}
    json.dump(found, sys.stdout)

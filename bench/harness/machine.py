"""The machine: a network of our own, and how busy others keep it."""

import os
import resource
import subprocess
import sys
import time

TICKS = os.sysconf("SC_CLK_TCK")
CORES = os.cpu_count()
INSIDE = "BENCH_INSIDE"

# Above this share of the machine a window is taken once more.
DISTURBED = 0.08

# 4,000 tunnels are 8,000 descriptors in a proxy, and Keyward gives one agent at most half of those that are free.
DESCRIPTORS = 20_000


def enter(build):
    """Runs this script again in a network and a mount namespace: nothing outside can be reached, and
    `*.bench.test` is what the origin says."""
    if os.environ.get(INSIDE) != "1":
        if os.geteuid() != 0:
            sys.exit("bench/run needs root, for a network namespace")
        os.environ[INSIDE] = "1"
        os.execvp("unshare", ["unshare", "-mn", "--", sys.executable, *sys.argv])
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    with open("/proc/sys/net/ipv4/ip_local_port_range", "w") as ports:
        ports.write("20000 64999")
    resolver = f"{build}/resolv.conf"
    with open(resolver, "w") as file:
        file.write("nameserver 127.0.0.1\noptions timeout:2 attempts:2\n")
    subprocess.run(["mount", "--bind", resolver, "/etc/resolv.conf"], check=True)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, DESCRIPTORS), hard))


def busy():
    """CPU time that all processes have used, in seconds."""
    with open("/proc/stat") as stat:
        ticks = [int(field) for field in stat.readline().split()[1:]]
    return (ticks[0] + ticks[1] + ticks[2] + ticks[5] + ticks[6]) / TICKS


class Patience:
    """Waits until others leave the machine alone: a little for each window, and not for ever."""

    def __init__(self, seconds):
        self.left = seconds

    def wait(self, at_most=5.0):
        began = time.monotonic()
        while self.left > 0 and time.monotonic() - began < at_most:
            before = busy()
            time.sleep(0.3)
            if (busy() - before) / 0.3 / CORES < 0.15:
                break
        self.left -= max(0.0, time.monotonic() - began - 0.4)


def foreign(told):
    """The share of the machine that neither proxy nor origin nor client used in the window."""
    parts = [part for part in told.get("passes", [told]) if "machine_cpu_s" in part]
    if not parts:
        return 0.0
    own = ("proxy_cpu_s", "origin_cpu_s", "client_cpu_s")
    others = sum(part["machine_cpu_s"] - sum(part[name] for name in own) for part in parts)
    return max(0.0, others / sum(part["wall_s"] for part in parts) / CORES)

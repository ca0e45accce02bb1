"""What is measured, and what the goals are."""

from dataclasses import dataclass, field

GIB = 1 << 30


@dataclass(frozen=True)
class Scenario:
    """One kind of load. `figure` reads its main figure from what the load generator tells."""

    load: str
    title: str
    unit: str
    figure: object
    options: dict
    quick: dict
    # As a ratio to HAProxy, or absolute.
    goal: float | None = None
    relative: bool = True
    digits: int = 1
    fresh: bool = field(default=False)


def cpu_us(told):
    return told["cpu_us"] if told.get("supported", True) and told["requests"] else None


def per_gib(told):
    return told.get("cpu_s_per_gib")


def minting(told):
    first, again = told["passes"]
    return (first["cpu_us"] - again["cpu_us"]) / 1000


def per_tunnel(told):
    return told["kib_per_tunnel"] if told["asks"] else None


def small(load, title, goal, **options):
    quick = {"duration": 1, "warmup": 0.3}
    return Scenario(load, title, "µs", cpu_us, options, quick, goal)


def bulk(load, title, goal, **options):
    quick = {"bytes": GIB >> 4}
    return Scenario(load, title, "s/GiB", per_gib, options, quick, goal, digits=2)


SCENARIOS = {
    "a1": small("keepalive", "keep-alive, 1 stream", 0.8, c=1, duration=2.5, warmup=0.5),
    "a64": small("keepalive", "keep-alive, 64 streams", 0.9, c=64, duration=3),
    "new": small("connect", "new CONNECT + TLS for each request", 0.5, c=8, duration=3),
    "h2": small("http2", "HTTP/2, 100 requests at once", 0.85, c=100, duration=3),
    "plain": bulk("down", "download, nothing to scan", 0.65, host="plain.bench.test"),
    "down": bulk("down", "download, scanned", 0.9),
    "up": bulk("up", "upload", 0.6),
    "sse": Scenario(
        "events",
        "server-sent events, delay",
        "ms",
        lambda told: told.get("p50_ms"),
        {"n": 40},
        {"n": 10},
        goal=0.4,
        relative=False,
        digits=2,
    ),
    "hosts": Scenario(
        "hosts",
        "a host that is met for the first time",
        "ms",
        minting,
        {"n": 1000, "c": 4},
        {"n": 100},
        goal=0.3,
        relative=False,
        digits=2,
        fresh=True,
    ),
    "idle": Scenario(
        "idle",
        "an idle tunnel",
        "KiB",
        per_tunnel,
        {"steps": "1000,4000"},
        {"steps": "200,500"},
        goal=24,
        relative=False,
        fresh=True,
    ),
}

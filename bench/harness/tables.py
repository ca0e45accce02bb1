"""Results as Markdown: medians over the rounds, with the lowest and the highest."""

from statistics import median

from harness.machine import DISTURBED
from harness.scenarios import SCENARIOS

YARDSTICK = "haproxy"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"


def read(results, peer, name, figure):
    """The figure of each round, `None` where there is none."""
    told = results["peers"][peer]["rounds"]
    found = []
    for round_ in told:
        try:
            found.append(figure(round_[name]))
        except (KeyError, TypeError, ValueError, ZeroDivisionError):
            found.append(None)
    return found


def ratios(values, yardstick):
    """Round by round: what disturbs a round disturbs both."""
    pairs = zip(values, yardstick)
    return [value / by if value is not None and by else None for value, by in pairs]


def spread(values, digits):
    """`median (lowest to highest)`."""
    values = [value for value in values if value is not None]
    if not values:
        return "–"
    shown = [f"{value:.{digits}f}" for value in (median(values), min(values), max(values))]
    return f"{shown[0]} ({shown[1]} to {shown[2]})" if len(values) > 1 else shown[0]


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|---" + "|--:" * (len(head) - 1) + "|"]
    return lines + ["| " + " | ".join(row) + " |" for row in rows] + [""]


def proxies(results):
    return [name for name, peer in results["peers"].items() if peer["kind"] != "direct"]


def against_goals(results):
    others = [name for name in proxies(results) if name != YARDSTICK]
    label = {name: results["peers"][name]["label"] for name in proxies(results)}
    rows = []
    for name, scenario in SCENARIOS.items():
        yardstick = [None]
        if YARDSTICK in label:
            yardstick = read(results, YARDSTICK, name, scenario.figure)
        unit = "" if scenario.relative else f" {scenario.unit}"
        row = [scenario.title, f"≤ {scenario.goal}{unit}"]
        for peer in others:
            values = read(results, peer, name, scenario.figure)
            if scenario.relative:
                row.append(spread(ratios(values, yardstick), 2))
            else:
                row.append(spread(values, scenario.digits))
        itself = spread(yardstick, scenario.digits)
        row.append(itself if itself == "–" else f"{itself} {scenario.unit}")
        if any(cell[0] != "–" for cell in row[2:]):
            rows.append(row)
    head = ["proxy CPU × HAProxy, unless a unit stands", "goal", *(label[peer] for peer in others)]
    return table([*head, "HAProxy itself"], rows)


def absolute(results):
    rounds = [round_ for peer in results["peers"].values() for round_ in peer["rounds"]]
    shown = [name for name in SCENARIOS if any(name in round_ for round_ in rounds)]
    head = ["proxy CPU and memory"] + [f"{name}, {SCENARIOS[name].unit}" for name in shown]
    rows = []
    for peer in proxies(results):
        cells = [spread(read(results, peer, name, SCENARIOS[name].figure), SCENARIOS[name].digits)
                 for name in shown]
        rows.append([results["peers"][peer]["label"], *cells])
    return table(head, rows)


def rates(results):
    columns = [
        ("a1", "p50_ms", 3, "a1 p50, ms"),
        ("a1", "p99_ms", 2, "p99"),
        ("a64", "per_second", 0, "a64, requests/s"),
        ("a64", "p50_ms", 2, "p50, ms"),
        ("a64", "p99_ms", 2, "p99"),
        ("new", "per_second", 0, "new/s"),
        ("new", "p99_ms", 1, "p99, ms"),
        ("h2", "per_second", 0, "h2, requests/s"),
        ("h2", "p99_ms", 1, "p99, ms"),
        ("down", "mib_per_second", 0, "down, MiB/s"),
        ("up", "mib_per_second", 0, "up, MiB/s"),
        ("sse", "max_ms", 2, "SSE delay at most, ms"),
        ("a64", "peak_kib", 0, "memory at a64, KiB"),
    ]
    rows = []
    for name, peer in results["peers"].items():
        row = [peer["label"]]
        for scenario, key, digits, _ in columns:
            values = read(results, name, scenario, lambda told, key=key: told[key])
            values = [value for value in values if value is not None]
            row.append(f"{median(values):,.{digits}f}" if values else "–")
        rows.append(row)
    return table(["medians", *(column[3] for column in columns)], rows)


def added(results):
    """Latency over that without a proxy, round by round."""
    if "direct" not in results["peers"]:
        return []
    rows = []
    for peer in proxies(results):
        row = [results["peers"][peer]["label"]]
        for scenario in ("a1", "a64", "new"):
            for key in ("p50_ms", "p99_ms"):
                figure = lambda told, key=key: told[key]
                here, without = (read(results, name, scenario, figure) for name in (peer, "direct"))
                pairs = zip(here, without)
                row.append(spread([a - b if a and b else None for a, b in pairs], 2))
        rows.append(row)
    names = [f"{name} {part}" for name in ("a1", "a64", "new") for part in ("p50", "p99")]
    return table(["latency added, ms", *names], rows)


def faults(results):
    lines = []
    for name, peer in results["peers"].items():
        for round_ in peer["rounds"]:
            for scenario, told in round_.items():
                origin = told.get("origin", {})
                wrong = origin.get("requests", 0) - origin.get("credential_right", 0)
                if told.get("errors") or wrong:
                    why = told.get("why") or f"{wrong} requests without the right credential"
                    lines.append(f"- {name}, {scenario}: {why}")
        if peer.get("failed"):
            lines.append(f"- {name}: {peer['failed']}")
    return lines and ["Faults:", "", *sorted(set(lines)), ""]


def render(results):
    shares = [told["foreign"] for peer in results["peers"].values() for round_ in peer["rounds"]
              for told in round_.values() if "foreign" in told]
    versions = [f"{peer['label']}: {peer['version']}" for peer in results["peers"].values()
                if peer.get("version")]
    lines = [
        f"{results['date']}; {results['cores']} cores ({results['cpu']}), Linux {results['kernel']}; "
        f"{results['rounds']} rounds, interleaved: median (lowest to highest).",
        "",
        *against_goals(results),
        *absolute(results),
        *added(results),
        *rates(results),
        *faults(results),
        f"Others used {median(shares or [0]):.0%} of the machine in the median window; in "
        f"{sum(share > DISTURBED for share in shares)} of {len(shares)} windows over {DISTURBED:.0%}. "
        + "; ".join(versions) + ".",
    ]
    return "\n".join(lines) + "\n"


def put_into(page, text):
    """Replaces what stands between the marks."""
    with open(page) as file:
        before, rest = file.read().split(BEGIN)
    after = rest.split(END)[1]
    with open(page, "w") as file:
        file.write(f"{before}{BEGIN}\n\n{text}\n{END}{after}")

"""Peers: what `peers/NAME.toml` says, started, asked and ended."""

import json
import os
import shutil
import signal
import socket
import subprocess
import time
import tomllib
import urllib.request

SECRET = "bench-real-secret"
ORIGIN = "127.0.0.1:8443"
CONTROL = "127.0.0.1:8080"
READY_WITHIN = 40


class Failed(Exception):
    """A peer that does not run, or a load that could not be made."""


def end(process):
    """Ends a process that was started here, with its children."""
    for sign, patience in ((signal.SIGTERM, 5), (signal.SIGKILL, 5)):
        try:
            os.killpg(process.pid, sign)
            process.wait(patience)
            return
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


def told_by_origin(path):
    with urllib.request.urlopen(f"http://{CONTROL}/{path}", timeout=5) as answer:
        return json.load(answer)


class Origin:
    """The upstream of all peers."""

    def __init__(self, build):
        certs = f"{build}/certs"
        command = [f"{build}/target/release/bench-origin", "--tls", ORIGIN, "--control", CONTROL]
        command += ["--dns", "127.0.0.1:53", "--secret", SECRET]
        command += ["--cert", f"{certs}/origin.pem", "--key", f"{certs}/origin.key"]
        with open(f"{build}/run/origin.log", "wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        until = time.monotonic() + 5
        while True:
            try:
                told_by_origin("reset")
                return
            except OSError:
                if time.monotonic() > until:
                    raise Failed("the origin does not run: see run/origin.log") from None
                time.sleep(0.05)


class Peer:
    """One proxy."""

    def __init__(self, name, here, build, origin):
        with open(f"{here}/peers/{name}.toml", "rb") as file:
            self.recipe = tomllib.load(file)
        self.name, self.build, self.origin = name, build, origin
        self.run, self.certs = f"{build}/run/{name}", f"{build}/certs"
        self.process = None
        address = self.recipe["addr"]
        self.environment = dict(
            os.environ,
            RUN=self.run,
            CERTS=self.certs,
            BIN=f"{build}/target/release",
            BUILD=build,
            SECRET=SECRET,
            ADDR=address,
            PORT=address.rsplit(":", 1)[1],
        )

    def is_proxy(self):
        return self.recipe["kind"] != "direct"

    def version(self):
        if "version" not in self.recipe:
            return ""
        command = ["bash", "-c", self.recipe["version"]]
        asked = subprocess.run(command, env=self.environment, capture_output=True, text=True)
        return asked.stdout.strip()

    def start(self):
        """Starts it, anew and with nothing kept, and waits until a request gets through."""
        shutil.rmtree(self.run, ignore_errors=True)
        os.makedirs(self.run)
        if not self.is_proxy():
            return
        command = ["bash", "-c", "set -e\n" + self.recipe["start"]]
        with open(f"{self.run}.log", "ab") as log:
            self.process = subprocess.Popen(
                command,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd=self.run,
            )
        until = time.monotonic() + READY_WITHIN
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > until:
                self.stop()
                raise Failed(f"{self.name} does not run: see run/{self.name}.log")
            time.sleep(0.1)

    def answers(self):
        host, port = self.recipe["addr"].rsplit(":", 1)
        try:
            socket.create_connection((host, int(port)), 1).close()
            return self.load("hosts", n=1, passes=1, c=1)["passes"][0]["requests"] == 1
        except (OSError, Failed):
            return False

    def stop(self):
        if self.process:
            end(self.process)
        self.process = None

    def load(self, scenario, **options):
        """Runs the load generator; answers what it tells."""
        ca = self.recipe.get("ca", "$CERTS/ca.pem")
        ca = ca.replace("$RUN", self.run).replace("$CERTS", self.certs)
        if not os.path.exists(ca):
            raise Failed(f"{self.name} has no CA yet")
        options |= {"ca": ca, "origin-pid": self.origin.process.pid}
        match self.recipe["kind"]:
            case "forward":
                options["proxy"] = self.recipe["addr"]
            case "reverse":
                options["reverse"] = self.recipe["addr"]
        if "proxy_auth" in self.recipe:
            options["proxy-auth"] = self.recipe["proxy_auth"]
        passes = options.get("host") == self.recipe.get("passes", "")
        if passes or not self.recipe["injects"]:
            options["field"] = f"x-api-key: {SECRET}"
        if self.process:
            options["pids"] = self.process.pid
        command = [f"{self.build}/target/release/bench-load", scenario]
        for name, value in options.items():
            command += [f"--{name}", str(value)]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=300)
        if ran.returncode or not ran.stdout:
            raise Failed(f"{self.name}, {scenario}: {ran.stderr[-400:]}")
        return json.loads(ran.stdout)

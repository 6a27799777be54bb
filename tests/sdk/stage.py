"""The stage that the SDK tests play on: the mock provider, and tidegate in front of it.

Used by the Python tests as a module (`Stage`), and by the JavaScript tests as a command:

    python stage.py node --test js/

starts both, runs the command with their addresses in its environment, stops both, and ends with
the command's status, or with 1 if tidegate did not stop cleanly.

Environment:
    SDK_TARGET            `gateway` (default), or `direct`: the SDKs talk to the mock itself
    SDK_TIDEGATE          path of tidegate; default: the release build
    SDK_MOCK_PROVIDER     path of the mock provider; default: the release build's example
    TIDEGATE_DRIVER       `uring` or `epoll`; passed on to tidegate
"""

import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from decimal import Decimal
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]

# Longest wait for a process to be ready, and to be gone after SIGTERM.
READY_SECONDS = 20
GONE_SECONDS = 20
# Longest wait for something that happens beside a request: a record written, a hang-up noticed.
SOON_SECONDS = 10

ACCOUNT = "0123456789abcdef0123456789abcdef"
LOCKED = "locked"  # the gateway that asks for a token

# USD per million tokens: (input, output, read from and written to the prompt cache). Odd figures,
# so that a cost which is right is right for no other reason.
PRICES = {
    "openai/gpt-4o": ("2.53", "10.07", "1.27", "2.53"),
    "anthropic/claude-sonnet-4-6": ("3.01", "15.13", "0.31", "3.79"),
    "google-ai-studio/gemini-2.5-flash": ("0.37", "2.51", "0.07", "0.37"),
    "groq/llama-3.3-70b-versatile": ("0.59", "0.79", "0.29", "0.59"),
    "mistral/mistral-small-latest": ("0.11", "0.31", "0.05", "0.11"),
    "cohere/command-a-03-2025": ("2.57", "10.03", "1.25", "2.57"),
}
# Models with this at their end report tokens of the prompt cache.
CACHED = "-cached"
PROVIDERS = [key.split("/")[0] for key in PRICES]

# Gateways made in the file, one for each call that is looked up in the records: (prefix, number).
GATEWAYS = {"py": 400, "js-openai": 60, "js-anthropic": 60}


def model_of(provider):
    return next(key.split("/", 1)[1] for key in PRICES if key.startswith(provider + "/"))


class Stage:
    """Both processes, and questions to them."""

    def __init__(self):
        self.direct = self.is_direct()
        self.folder = Path(tempfile.mkdtemp(prefix="tidegate-sdk-"))
        self.gateway_token = "tg-" + secrets.token_hex(16)
        self.stored_key = "sk-stored-" + secrets.token_hex(16)
        self.api_token = "management-" + secrets.token_hex(16)
        # Gateways of which exactly one record was seen, one a line; written by all tests.
        self.once = self.folder / "once"
        self.once.touch()
        self.processes = []
        self.gateway = None
        self.mock = None

    @staticmethod
    def is_direct():
        target = os.environ.get("SDK_TARGET", "gateway")
        assert target in ("gateway", "direct"), f"SDK_TARGET is {target}"
        return target == "direct"

    def __enter__(self):
        try:
            self._start_mock()
            if not self.direct:
                self._start_tidegate()
        except BaseException:
            self._print_logs()
            self._kill()
            raise
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        """SIGTERM to both, tidegate first; it must end by itself and with 0."""
        try:
            self._stop()
        except BaseException:
            self._print_logs()
            raise
        finally:
            self._kill()
        shutil.rmtree(self.folder)

    # ---- questions -------------------------------------------------------------------------

    def url(self, provider, gateway):
        """Base URL of a provider's API: of the gateway, or (direct) of the mock."""
        return f"{self.root(gateway)}/{provider}"

    def root(self, gateway):
        if self.direct:
            return self.mock
        return f"{self.gateway}/v1/{ACCOUNT}/{gateway}"

    def reset(self):
        """Makes the mock forget, so that its counts are those of one test."""
        request = urllib.request.Request(self.mock + "/__mock/reset", method="POST")
        urllib.request.urlopen(request, timeout=10).close()

    def counters(self):
        """The mock's counts since the last reset, of all providers together."""
        return fetch_json(self.mock + "/__mock/counters")["total"]

    def last_request(self):
        """The newest request that the mock saw; `headers` by lower-case name."""
        (request,) = fetch_json(self.mock + "/__mock/requests?last=1")["requests"]
        headers = {}
        for name, value in request["headers"]:
            assert name.lower() not in headers, f"{name} was sent twice"
            headers[name.lower()] = value
        return request | {"headers": headers}

    def only_record(self, gateway):
        """The one record of `gateway`, once it is there. A second one fails here, or at the end."""
        found = wait_for(lambda: self._query(gateway), f"a record of gateway {gateway}")
        with self.once.open("a") as file:
            file.write(gateway + "\n")
        assert len(found) == 1, f"more records than exchanges: {found}"
        return found[0]

    def _query(self, gateway):
        """What `tidegate logs query` knows about a gateway, as it stands on disk."""
        command = [self.tidegate, "logs", "query", "--config", str(self.config)]
        answer = subprocess.run(
            [*command, "--output", "ndjson", f"gateway:{gateway}"],
            env=self.environment, capture_output=True, timeout=30,
        )
        assert answer.returncode == 0, f"logs query: {answer.returncode}, {answer.stderr}"
        return [json.loads(line, parse_float=Decimal) for line in answer.stdout.splitlines()]

    # ---- start and stop --------------------------------------------------------------------

    def _start_mock(self):
        program = os.environ.get("SDK_MOCK_PROVIDER") or release("examples/mock-provider")
        process, log = self._spawn("mock", [program, "--listen", "127.0.0.1:0"], os.environ)

        def listening():
            assert process.poll() is None, f"the mock provider ended with {process.returncode}"
            return re.search(r"listening on (http://[0-9.:]+)", log.read_text())

        self.mock = wait_for(listening, "the mock provider", READY_SECONDS)[1]

    def _start_tidegate(self):
        self.tidegate = os.environ.get("SDK_TIDEGATE") or release("tidegate")
        port = free_port()
        self.config = self.folder / "tidegate.toml"
        self.config.write_text(self._config(port))
        self.environment = os.environ | {
            "SDK_GATEWAY_TOKEN": self.gateway_token,
            "SDK_STORED_KEY": self.stored_key,
            "TIDEGATE_API_TOKEN": self.api_token,
        }
        command = [self.tidegate, "serve", "--config", str(self.config)]
        process, _ = self._spawn("tidegate", command, self.environment)
        self.gateway = f"http://127.0.0.1:{port}"

        def ready():
            assert process.poll() is None, f"tidegate ended with {process.returncode}"
            try:
                with urllib.request.urlopen(self.gateway + "/readyz", timeout=2) as answer:
                    return answer.status == 200
            except OSError:
                return False

        wait_for(ready, "tidegate to be ready", READY_SECONDS)

    def _config(self, port):
        lines = [
            f'listen = "127.0.0.1:{port}"',
            'data_dir = "data"',
            "shards = 2",
            "[[tokens]]",
            'name = "app"',
            'token = "env:SDK_GATEWAY_TOKEN"',
            'permissions = ["run"]',
            f"[gateways.{LOCKED}]",
            "authentication = true",
        ]
        for provider in PROVIDERS:
            lines += [
                f"[providers.{provider}]",
                'key = "env:SDK_STORED_KEY"',
                f'origin = "{self.mock}/{provider}"',
            ]
        for prefix, number in GATEWAYS.items():
            for index in range(number):
                lines += [f"[gateways.{prefix}-{index}]", "authentication = false"]
        lines.append("[prices]")
        for key, (entered, left, read, written) in PRICES.items():
            price = f'input = "{entered}", output = "{left}"'
            price += f', cache_read = "{read}", cache_write = "{written}"'
            lines += [f'"{key}{suffix}" = {{ {price} }}' for suffix in ("", CACHED)]
        return "\n".join(lines) + "\n"

    def _spawn(self, name, command, environment):
        log = self.folder / f"{name}.log"
        with log.open("wb") as sink:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, env=environment
            )
        self.processes.append((name, process, log))
        return process, log

    def _stop(self):
        for name, process, _ in reversed(self.processes):
            assert process.poll() is None, f"{name} was gone before the end: {process.returncode}"
            process.send_signal(signal.SIGTERM)
            status = process.wait(GONE_SECONDS)
            assert name == "mock" or status == 0, f"{name} ended with {status} after SIGTERM"
        # All is on disk now: no record came late, and none was lost.
        for gateway in self.once.read_text().split():
            found = self._query(gateway)
            assert len(found) == 1, f"{len(found)} records of gateway {gateway} in the end: {found}"

    def _kill(self):
        for _, process, _ in self.processes:
            if process.poll() is None:
                process.kill()
                process.wait()

    def _print_logs(self):
        for name, _, log in self.processes:
            text = log.read_text(errors="replace")[-4000:]
            print(f"---- {name}, last words (all in {log}) ----\n{text}", file=sys.stderr)


def release(name):
    target = Path(os.environ.get("CARGO_TARGET_DIR") or REPOSITORY / "target")
    path = target / "release" / name
    if not path.is_file():
        raise FileNotFoundError(f"{name} is not built: cargo build --release --bins --examples")
    return str(path)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def fetch_json(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.load(answer)


def wait_for(condition, what, seconds=SOON_SECONDS):
    """Asks until the answer is yes, and returns it; an impatient pause between two questions."""
    deadline = time.monotonic() + seconds
    while True:
        answer = condition()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.02)


def main(command):
    with Stage() as stage:
        environment = os.environ | {
            "SDK_MOCK": stage.mock,
            "SDK_GATEWAY": stage.gateway or "",
            "SDK_ACCOUNT": ACCOUNT,
            "SDK_PRICES": json.dumps(PRICES),
        }
        if not stage.direct:
            environment |= {
                "SDK_TIDEGATE": stage.tidegate,
                "SDK_CONFIG": str(stage.config),
                "SDK_ONCE": str(stage.once),
                "SDK_GATEWAY_TOKEN": stage.gateway_token,
                "SDK_STORED_KEY": stage.stored_key,
                "SDK_API_TOKEN": stage.api_token,
            }
        status = subprocess.run(command, env=environment).returncode
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""What the README tells people to type works as it stands there, but for the address."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from stage import REPOSITORY, fetch_json, wait_for

pytestmark = pytest.mark.gateway_only

ADDRESS = "http://127.0.0.1:8787"
QUESTION = '[{"role": "user", "content": "Hello"}]'
# Longest time for one snippet.
SNIPPET_SECONDS = 60


def snippets(language):
    """The README's blocks of a language, in their order."""
    text = (REPOSITORY / "README.md").read_text()
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def only(language, word):
    (found,) = [snippet for snippet in snippets(language) if word in snippet]
    return found


@pytest.fixture
def run(stage, tmp_path):
    """Runs a command in an empty folder, as somebody who has tidegate and two keys."""
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "tidegate").symlink_to(Path(stage.tidegate).resolve())
    token = tmp_path / ".local/state/tidegate/api-token"
    token.parent.mkdir(parents=True)
    token.write_text(stage.environment["TIDEGATE_API_TOKEN"])
    environment = os.environ | {
        "HOME": str(tmp_path),
        "PATH": f"{programs}:{os.environ['PATH']}",
        "OPENAI_API_KEY": "sk-openai-own",
        "ANTHROPIC_API_KEY": "sk-anthropic-own",
        "TIDEGATE_DATA_DIR": str(stage.folder / "data"),
    }

    def run(*command):
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True,
            timeout=SNIPPET_SECONDS,
        )

    def begin(*command):
        return subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True
        )

    run.begin = begin
    return run


def here(stage, snippet):
    assert ADDRESS in snippet, f"no address in {snippet}"
    return snippet.replace(ADDRESS, stage.gateway)


def output(done):
    assert done.returncode == 0, f"{done.returncode}: {done.stdout}{done.stderr}"
    return done.stdout


def keys_seen(stage):
    """The keys of the last two requests, as the provider saw them, sorted."""
    asked = fetch_json(stage.mock + "/__mock/requests?last=2")["requests"]
    return sorted(
        value.removeprefix("Bearer ")
        for request in asked
        for name, value in request["headers"]
        if name.lower() in ("authorization", "x-api-key")
    )


OWN_KEYS = ["sk-anthropic-own", "sk-openai-own"]


def tail(run, command, cause):
    """It goes on for ever, and shows what comes meanwhile."""
    process = run.begin("bash", "-c", f"exec {command}")
    try:
        # However late it starts: what was there before is shown, too, that of other tests included.
        output(run("bash", "-c", cause))
        model = None
        while model != "gpt-4o-mini+status=503":
            # For who is no terminal it is JSON.
            model = json.loads(process.stdout.readline())["model"]
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()


def test_python(stage, run, tmp_path):
    openai, anthropic = here(stage, only("python", "import")).split("\n\n")
    program = tmp_path / "snippet.py"
    program.write_text(f"""
{openai}
print(client.chat.completions.create(model="gpt-4o-mini", messages={QUESTION}).usage.total_tokens)
{anthropic}
print(client.messages.create(model="claude-sonnet-4-5", max_tokens=100, messages={QUESTION}).usage.output_tokens)
""")
    tokens = output(run(sys.executable, str(program))).split()
    assert len(tokens) == 2 and all(int(count) > 0 for count in tokens)
    assert keys_seen(stage) == OWN_KEYS


def test_javascript(stage, run):
    # Beside the packages, where Node looks for them.
    packages = (REPOSITORY / "tests/sdk/node_modules").resolve()
    node = shutil.which("node") or str(Path(sys.executable).with_name("node"))
    program = packages.parent / f"readme-{os.getpid()}.mjs"
    program.write_text(f"""{here(stage, only("js", "import"))}
const chat = await openai.chat.completions.create({{ model: "gpt-4o-mini", messages: {QUESTION} }});
const message = await anthropic.messages.create({{ model: "claude-sonnet-4-5", max_tokens: 100, messages: {QUESTION} }});
console.log(JSON.stringify([chat.usage.total_tokens, message.usage.output_tokens]));
""")
    try:
        tokens = json.loads(output(run(node, str(program))))
    finally:
        program.unlink()
    assert len(tokens) == 2 and all(count > 0 for count in tokens)
    assert keys_seen(stage) == OWN_KEYS


def test_curl(stage, run):
    openai, anthropic = here(stage, only("sh", "-d '{")).strip().split("\n\n")
    assert json.loads(output(run("bash", "-c", openai)))["choices"]
    assert json.loads(output(run("bash", "-c", anthropic)))["content"]
    assert keys_seen(stage) == OWN_KEYS


def test_metrics(stage, run):
    figures = output(run("bash", "-c", here(stage, only("sh", "/metrics"))))
    assert "\ntidegate_requests_total{" in figures


def test_logs(stage, run, tmp_path):
    curl = here(stage, only("sh", "-d '{")).split("\n\n")[0]
    output(run("bash", "-c", curl))
    query = "tidegate logs query gateway:default --limit 1 --output ndjson".split()
    newest = wait_for(lambda: output(run(*query)), "a record")
    identity = json.loads(newest)["id"]
    lines = only("sh", "tidegate logs").strip().splitlines()
    commands = [line.partition("  #")[0].strip() for line in lines]
    verbs = [command.split()[2] for command in commands]
    assert set(verbs) == {"tail", "query", "show", "export"}
    for command, verb in zip(commands, verbs):
        if verb == "tail":
            tail(run, command, curl.replace("gpt-4o-mini", "gpt-4o-mini+status=503"))
            continue
        output(run("bash", "-c", command.replace(" ID", f" {identity}")))
    table = (tmp_path / "day.csv").read_text().splitlines()
    assert len(table) > 1 and identity in "".join(table)

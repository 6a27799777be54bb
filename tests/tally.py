"""Counts what a test program printed: `tally.py KIND LOG STATUS` says "passed failed".

Appends "seconds name" of each test to the file named by TALLY_TIMES. A step that failed without
a failed test (it did not build, it was killed) counts as one failure.
"""

import os
import re
import sys
import xml.etree.ElementTree as ElementTree


def nextest(text):
    passed = sum(map(int, re.findall(r"tests? run: (\d+) passed", text)))
    failed = sum(map(int, re.findall(r"tests? run:.*?(\d+) (?:failed|timed out)", text)))
    times = re.findall(r"^\s+(?:PASS|FAIL|SLOW) \[\s*>?\s*([\d.]+)s\]\s+(?:\(.*?\)\s+)?(.+)$", text, re.M)
    return passed, failed, times


def libtest(text):
    counts = re.findall(r"^test result: .*?(\d+) passed; (\d+) failed", text, re.M)
    return sum(int(passed) for passed, _ in counts), sum(int(failed) for _, failed in counts), []


def junit(text):
    passed, failed, times = 0, 0, []
    for case in ElementTree.fromstring(text).iter("testcase"):
        bad = any(child.tag in ("failure", "error", "skipped") for child in case)
        passed, failed = passed + (not bad), failed + bad
        times.append((case.get("time"), f"{case.get('classname')} {case.get('name')}"))
    return passed, failed, times


def tap(text):
    total = {word: int(number) for word, number in re.findall(r"^# (\w+) (\d+)$", text, re.M)}
    failed = sum(total.get(word, 0) for word in ("fail", "cancelled", "skipped"))
    lines = re.findall(r"ok \d+ - (.+)\n\s+---\n\s+duration_ms: ([\d.]+)", text)
    return total.get("pass", 0), failed, [(float(ms) / 1000, f"js {name}") for name, ms in lines]


def main(kind, log, status):
    try:
        with open(log, encoding="utf-8", errors="replace") as file:
            text = re.sub(r"\x1b\[[0-9;]*m", "", file.read())
        passed, failed, times = globals()[kind](text)
    except (OSError, ElementTree.ParseError):
        passed, failed, times = 0, 0, []
    if passed + failed == 0 and kind != "libtest":
        failed = 1  # a suite without tests was not found (there may be no doc tests, though)
    if status != "0":
        failed = max(failed, 1)
    with open(os.environ["TALLY_TIMES"], "a", encoding="utf-8") as file:
        file.writelines(f"{float(seconds):.2f} {name}\n" for seconds, name in times)
    print(passed, failed)


if __name__ == "__main__":
    main(*sys.argv[1:])

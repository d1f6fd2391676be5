"""Loaded by pytest (-p) beside docker-py's own tests, which stay as they are: writes what became of
each test as a line of JSON to $DOCKER_PY_REPORT, and takes back that warnings are errors, which
libraries newer than that checkout do not live up to. Never changes what a test asserts."""

import json
import os
import warnings

simplefilter = warnings.simplefilter


def simplefilter_without_errors(action, *args, **kwargs):
    simplefilter("ignore" if action == "error" else action, *args, **kwargs)


warnings.simplefilter = simplefilter_without_errors


def write(name, outcome, reason=""):
    with open(os.environ["DOCKER_PY_REPORT"], "a", encoding="utf-8") as report:
        print(json.dumps({"name": name, "outcome": outcome, "reason": reason}), file=report)


def reason_of(report):
    crash = getattr(report.longrepr, "reprcrash", None)
    return crash.message if crash is not None else str(report.longrepr or "")


def pytest_collectreport(report):
    if report.failed:
        write(report.nodeid, "failed", reason_of(report))


def pytest_runtest_logreport(report):
    if hasattr(report, "wasxfail"):
        write(report.nodeid, "xfailed" if report.skipped else "xpassed", report.wasxfail)
    elif report.when == "call" or not report.passed:
        write(report.nodeid, report.outcome, "" if report.passed else reason_of(report))

"""How long the page of twenty runs takes to make, and to become interactive in a browser.

    python benchmarks/report.py --data DIR

Needs requirements-test.txt (Playwright) and Chromium. The runs are those under results/seeds, repeated to twenty; the
median of five openings, each in a fresh browser context, from the start of the navigation to the moment when every
chart is drawn and every control answers.
"""

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[0] = str(ROOT)  # and not this folder, whose profile.py would hide Python's own
RUNS, OPENINGS = 20, 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", metavar="DIR", help="where CIFAR-10 is")
    arguments = parser.parse_args()

    from playwright.sync_api import sync_playwright

    from experiment import run_directory
    from experiment.data import sources
    from experiment.evaluation.result import load_result
    from experiment.reporting import html, write

    images = sources.load(arguments.data, download=False).test.images
    kept = [load_result(run, run.path.name) for run in run_directory.find(ROOT / "results" / "seeds")]
    evaluations = [
        replace(run, name=f"run {number}", config=run.config.model_copy(update={"seed": number}))
        for number, run in enumerate(islice(cycle(kept), RUNS))
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "report.html"
        content = write.write(evaluations, Path(folder), images)
        began = time.perf_counter()
        html.write(evaluations, content, path, images, ROOT / "results" / "studies")
        made = time.perf_counter() - began
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            ready = [milliseconds_to_ready(browser, path) for _ in range(OPENINGS)]
            browser.close()
        result = {
            "runs": RUNS,
            "seconds_to_make": round(made, 2),
            "megabytes": round(path.stat().st_size / 1e6, 2),
            "seconds_to_interactive": round(statistics.median(ready) / 1e3, 2),
        }
    print(json.dumps(result))
    (ROOT / "results" / "benchmarks" / "report.json").write_text(json.dumps(result, indent=1) + "\n")


def milliseconds_to_ready(browser, path: Path) -> float:
    context = browser.new_context(viewport={"width": 1100, "height": 900})
    page = context.new_page()
    page.add_init_script(
        "new MutationObserver(() => { if (document.body?.dataset.ready && !window.readyAt) window.readyAt ="
        " performance.now(); }).observe(document, {subtree: true, attributes: true, childList: true})"
    )
    page.goto(path.as_uri())
    page.wait_for_function("window.readyAt", timeout=60_000)
    milliseconds = page.evaluate("window.readyAt")
    context.close()
    return milliseconds


if __name__ == "__main__":
    main()

"""The page, in a real browser: it loads alone, its controls work, everybody can read it, and it trusts no name."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from experiment.errors import UserError
from experiment.evaluation.comparison import compare
from experiment.evaluation.result import RunResult
from experiment.reporting import html, write
from experiment.run_directory import RunDirectory
from tests.conftest import make_run, predict_and_load

ROOT = Path(__file__).resolve().parents[2]
ARTEFACTS = Path(os.environ.get("ARTEFACTS", ROOT / "tests" / "artefacts"))
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytest.importorskip("vl_convert", reason="needs pip install -e '.[report]'")

BN = "model.batch_norm=after_activation"
ODD_NAME = "<script>window.harmed=1<img src=x onerror='window.harmed=1'>"


def fake_runs(folder: Path) -> list[RunResult]:
    """Twenty runs: ten seeds of two arms, one of them with a name that is an attack."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(10), 100)
    tendency = {network: rng.standard_normal((1000, 10)) for network in ("plain", "bn")}  # what its seeds share
    evaluations = []
    for seed in range(10):
        for network, override in (("plain", "model.batch_norm=none"), ("bn", BN)):
            name = f"{network}/{ODD_NAME if (network, seed) == ('plain', 3) else f'seed{seed}'}"
            run = make_run(folder / name, f"seed={seed}", "epochs=50", override, correct=70 + seed)
            sureness = (2.5 if network == "bn" else 2) * np.eye(10)[labels]
            run.write_predictions(tendency[network] + 0.1 * rng.standard_normal((1000, 10)) + sureness, labels)
            run.write_history(
                [
                    {**row, "epoch": epoch + 1, "val_accuracy": min(0.9, 0.4 + 0.01 * epoch + 0.002 * seed)}
                    for epoch, row in enumerate(run.read_history()[:1] * 50)
                ]
            )
            summary = run.read_summary()
            run.write_summary({**summary, "epochs": 50, "git_commit": "<b>", "command": "train.py", **machine()})
            evaluations.append(predict_and_load(run, name, None))
    return evaluations


def machine() -> dict:
    return {"machine": {"cpu": "a <processor>", "cores": 2, "gpus": 0}, "versions": {"python": "3.11"}}


def write_page(evaluations, folder: Path, studies: Path | None = None, images: np.ndarray | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    comparison = compare(evaluations)
    html.write(comparison, write.as_json(comparison), folder / "report.html", images, studies)
    return folder / "report.html"


@pytest.fixture(scope="module")
def page_file(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    study = folder / "studies" / "learning_rate"
    study.mkdir(parents=True)
    verdict = {"claim": "Large rates", "question": "<i>Is it?</i>", "answer": "Supported", "command": "python study.py"}
    verdict |= {"findings": [{}], "table": [["compared", "verdict"], ["b", "yes"]]}
    (study / "verdict.json").write_text(json.dumps(verdict))
    images = np.random.default_rng(1).integers(0, 256, (1000, 32, 32, 3), dtype=np.uint8)
    return write_page(fake_runs(folder / "runs"), folder, folder / "studies", images)


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("no Chromium here: the page is tested in a real browser")
    playwright = pytest.importorskip("playwright.sync_api", reason="needs pip install -e '.[dev]'")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def opened(browser, page_file):
    """Opens the page, and fails the test at its end if the page complained or asked the network for anything."""
    contexts, troubles = [], []

    def open_page(path: Path = page_file, **options):
        context = browser.new_context(**{"viewport": {"width": 1100, "height": 900}, **options})
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: message.type == "error" and troubles.append(message.text))
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("request", lambda request: request.url.startswith(("data:", "file:")) or troubles.append(request.url))
        page.goto(path.as_uri())
        page.wait_for_selector("body[data-ready]", timeout=60_000)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert troubles == []


def lines(page) -> int:
    return int(page.locator("#curves-chart").get_attribute("data-lines"))


def means(page) -> int:
    return int(page.locator("#curves-chart").get_attribute("data-means"))


def test_the_answer_comes_first(opened):
    page = opened()
    assert "bn is the best: 8" in page.locator("header p").first.inner_text()
    assert page.locator("section table").first.locator("tbody tr").count() == 2


def test_an_arm_or_a_run_is_hidden_and_shown_again(opened):
    page = opened()
    assert lines(page) == 40 and means(page) == 4
    run = page.locator("#legend button", has_text="bn/seed0")
    run.click()
    assert lines(page) == 38 and run.get_attribute("aria-pressed") == "false"
    arm = page.locator("#legend button", has_text="plain").first
    arm.click()
    assert lines(page) == 18 and means(page) == 2
    arm.click(), run.click()
    assert lines(page) == 40


def test_of_one_epoch_training_and_validation_can_be_told_apart(opened, tmp_path):
    runs = [
        make_run(tmp_path / str(k) / "seed0", "epochs=1", f"batch_size={k}", epochs=1, best_epoch=1) for k in (8, 9)
    ]
    for run in runs:
        run.write_history(run.read_history()[:1])
    page = opened(write_page([predict_and_load(run, run.path.parent.name, None) for run in runs], tmp_path))
    drawn = [mark.get_attribute("fill") for mark in page.locator("#curves-chart .mark-symbol path[opacity='1']").all()]
    assert sorted(fill == "transparent" for fill in drawn) == [False, False, True, True]


def test_measure_and_axis_are_switched(opened):
    page = opened()
    page.select_option("#measure", "loss")
    page.select_option("#x", "until")
    page.wait_for_selector("#curves-chart[data-shows='loss over until'] svg")
    page.wait_for_function("document.querySelector('#curves-chart svg').textContent.includes('seconds')")
    assert "loss (nats)" in page.locator("#curves-chart svg").text_content()
    page.select_option("#measure", "learning_rate")
    assert lines(page) == 20


def test_pointing_at_a_line_shows_its_values(opened):
    page = opened()
    box = page.locator("#curves-chart svg").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.wait_for_selector("#vg-tooltip-element.visible")
    assert "epoch" in page.locator("#vg-tooltip-element").inner_text()


def test_the_values_of_each_chart_are_there_as_a_table(opened):
    page = opened()
    for name, rows in (("curves", 50), ("classes", 20), ("calibration", 1)):
        page.locator(f"#{name}-table summary").click()
        page.wait_for_selector(f"#{name}-table tbody tr")
        assert page.locator(f"#{name}-table tbody tr").count() >= rows


def test_runs_are_sorted_filtered_and_opened(opened):
    page = opened()
    names = page.locator("#run-table tr.run:visible th")
    header = page.locator("#run-table thead th", has_text="test %")
    header.locator("button").click()
    assert header.get_attribute("aria-sort") == "ascending"
    accuracies = [float(text) for text in page.locator("#run-table tr.run td:nth-child(6)").all_inner_texts()]
    assert accuracies == sorted(accuracies)
    header.locator("button").click()
    falling = page.locator("#run-table tr.run td:nth-child(6)").all_inner_texts()
    assert [float(text) for text in falling] == sorted(accuracies, reverse=True)
    page.fill("#filter", "bn/")
    assert page.locator("#count").inner_text() == "10 of 20 runs"
    assert all(name.startswith("bn/") for name in names.all_inner_texts())
    button = page.locator("#run-table tr.run:visible .open").first
    button.focus()
    page.keyboard.press("Enter")
    details = page.locator("#run-table tr.details:visible")
    assert details.count() == 1
    assert "model.norm: none there, batch here" in details.inner_text()
    assert "learning_rate: 0.001" in details.inner_text()


def test_a_cell_shows_its_images_with_both_answers(opened):
    page = opened()
    cell = page.locator("button.cell[data-cell='0-3-5']")
    cell.click()
    shown = page.locator("#cell-images figure")
    assert 1 <= shown.count() <= 6
    text = shown.first.inner_text()
    assert "true: cat" in text and "plain: dog" in text and "bn: " in text
    size = page.locator("#cell-images .sprite").first.evaluate("e => getComputedStyle(e).backgroundImage.slice(0, 20)")
    assert size.startswith('url("data:image/jpeg')


def test_of_many_classes_one_can_be_found(opened, tmp_path):
    names, labels = [f"class {number}" for number in range(40)], np.repeat(np.arange(40), 10)
    results = []
    for arm, override in (("plain", "model.batch_norm=none"), ("bn", BN)):
        run = make_run(tmp_path / arm / "seed0", override)
        summary = run.read_summary()
        run.write_summary(summary | {"data": summary["data"] | {"class_names": names}})
        run.write_predictions(np.random.default_rng(len(arm)).normal(size=(400, 40)) + np.eye(40)[labels], labels)
        results.append(predict_and_load(run, f"{arm}/seed0", None))
    page = opened(write_page(results, tmp_path / "page"))
    pairs = page.locator("tr.pair:visible")
    assert pairs.count() == 2 * 30
    page.fill("#class-filter", "CLASS 27")
    found = pairs.all_inner_texts()
    assert found and all("class 27" in text for text in found)
    page.wait_for_function("!document.querySelector('#classes-chart svg').textContent.includes('class 3')")
    assert "class 27" in page.locator("#classes-chart svg").text_content()


def test_the_gallery_and_the_studies_are_there(opened):
    page = opened()
    assert page.locator("section[aria-labelledby=disagreement] figure .sprite").count() > 4
    study = page.locator("details.study")
    assert study.get_attribute("open") is None
    study.locator("summary").click()
    assert "<i>Is it?</i>" in study.inner_text()  # shown as it is, not obeyed
    assert study.locator("table tr").all_inner_texts() == ["compared\tverdict", "b\tyes"]


@pytest.mark.parametrize("change", [{"unfinished": 3}, {"caveats": "none"}, {"table": ["no rows"]}])
def test_a_study_with_an_odd_verdict_is_refused(evaluated, tmp_path, change):
    verdict = {"question": "?", "answer": "Supported", "command": "python study.py", "table": []}
    (tmp_path / "verdict.json").write_text(json.dumps(verdict | change))
    with pytest.raises(UserError, match=next(iter(change))):
        write_page([evaluated()], tmp_path, tmp_path)


def test_a_figure_that_is_a_link_is_not_shown_as_a_study_s(evaluated, tmp_path):
    verdict = {"question": "?", "answer": "Supported", "command": "python study.py", "table": []}
    (tmp_path / "verdict.json").write_text(json.dumps(verdict))
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "figure.svg").symlink_to(tmp_path / "secret")
    with pytest.raises(UserError, match="symbolic link"):
        write_page([evaluated()], tmp_path, tmp_path)


def test_names_from_files_do_no_harm(opened, page_file):
    page = opened()
    page.locator("#curves-table summary").click()
    page.wait_for_selector("#curves-table tbody tr")
    assert page.evaluate("window.harmed") is None
    assert page.locator("#run-table th", has_text=ODD_NAME).count() == 1
    assert "a <processor>" in page.locator("section[aria-labelledby=provenance]").inner_text()
    assert ODD_NAME not in page_file.read_text()


@pytest.mark.parametrize("options", [{}, {"color_scheme": "dark"}, {"viewport": {"width": 360, "height": 740}}])
def test_everybody_can_read_it(opened, options):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs pip install -e '.[dev]'")
    page = opened(**options)
    page.locator("button.cell").first.click()
    for summary in page.locator("summary").all():
        summary.click()
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    found = axe.Axe().run(page).response["violations"]
    serious = [
        (each["id"], each["nodes"][0]["html"][:150]) for each in found if each["impact"] in ("serious", "critical")
    ]
    assert serious == []


def test_synthetic_images_cannot_be_overlooked(opened, tmp_path):
    run = make_run(tmp_path / "demo/seed0", data="generated")
    run.write_summary({**run.read_summary(), **machine()})
    page = opened(write_page([predict_and_load(run, "demo/seed0", None)], tmp_path / "out"))
    assert "synthetic images, not CIFAR-10" in page.locator("header .warning").inner_text()
    assert "SYNTHETIC IMAGES" in page.locator("section[aria-labelledby=provenance]").inner_text()
    page.locator("button.cell").first.click()
    assert "were not on the machine" in page.locator("#cell-images").inner_text()


def test_the_page_stays_small(page_file):
    """Of twenty runs; random pictures, which no JPEG makes small, are a third of it."""
    assert page_file.stat().st_size < 3_000_000


def test_large_images_are_shown_smaller(evaluated, tmp_path):
    rng, runs = np.random.default_rng(0), [evaluated("plain/seed0", correct=70), evaluated("bn/seed0", BN, correct=90)]
    pages = [
        write_page(runs, tmp_path / str(side), None, rng.integers(0, 256, (100, side, side, 3), np.uint8))
        .stat()
        .st_size
        for side in (200, 800)
    ]
    assert pages[1] < 2 * pages[0]


def test_the_real_runs_give_a_page_and_its_pictures(opened, tmp_path):
    """Leaves light.png, dark.png and html.png; the last is docs/report.png, by `make docs/report.png`."""
    command = [sys.executable, "evaluate.py", "results/seeds", "--output", str(tmp_path), "--report"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    runs = len(json.loads((tmp_path / "comparison.json").read_text())["runs"])
    ARTEFACTS.mkdir(parents=True, exist_ok=True)
    for name, options in (("light", {}), ("dark", {"color_scheme": "dark"})):
        page = opened(tmp_path / "report.html", **options)
        assert page.locator("#run-table tr.run").count() == runs
        page.screenshot(path=ARTEFACTS / f"{name}.png", full_page=True)
        if name == "light":
            page.screenshot(path=ARTEFACTS / "report.png")


def test_without_its_libraries_the_page_says_what_to_install(tmp_path):
    make_run(tmp_path / "runs/plain/seed0")
    code = "import sys; sys.modules['vl_convert'] = None; import evaluate; from experiment.errors import reported\n"
    code += f"with reported(): evaluate.main(evaluate.parse_arguments([{str(tmp_path / 'runs')!r}, '--report', "
    code += f"'--output', {str(tmp_path / 'out')!r}]))"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert result.returncode == 2 and "pip install -e '.[report]'" in result.stderr
    assert not (tmp_path / "out").exists()  # told before anything is computed


def test_a_run_without_its_machine_is_no_obstacle(opened, tmp_path):
    run = make_run(tmp_path / "old/seed0")
    assert "machine" not in RunDirectory(run.path).read_summary()
    page = opened(write_page([predict_and_load(run, "old/seed0", None)], tmp_path / "out"))
    assert "float32" in page.locator("section[aria-labelledby=provenance] dl").first.inner_text()

"""The numbers of README.md and docs/ are those of the files under results/."""

import functools
import itertools
import json
import re
import statistics

import numpy as np
import pytest

from experiment.evaluation import metrics
from experiment.run_directory import RunDirectory
from tests.processes import ROOT

RESULTS = ROOT / "results"
# Runs of the benchmark of throughput on processors with bfloat16 instructions, in results/benchmarks.
THROUGHPUT = ["", "twenty_rounds", "ghost_batches", "fourth_run", "fifth_run"]


def text_of(page: str) -> str:
    """A page's text, each paragraph in one line."""
    path = ROOT / page if page == "README.md" else ROOT / "docs" / page
    return re.sub(r"\s+", " ", path.read_text(encoding="utf-8"))


@functools.cache
def accuracies_of(folder: str, tta: str = "none") -> dict[str, float]:
    """The test accuracies of the runs in a folder of results/, 0 to 1, by the kept predictions."""
    found = {}
    for file in sorted((RESULTS / folder).glob("seed*/config.yaml")):
        logits, labels = RunDirectory(file.parent).read_predictions(tta)
        found[file.parent.name] = float((logits.argmax(1) == labels).mean())
    return found


def mean_of(folder: str, tta: str = "none") -> str:
    return f"{100 * np.mean(list(accuracies_of(folder, tta).values())):.2f} %"


def spread_of(folder: str) -> str:
    return f"± {100 * np.std(list(accuracies_of(folder).values()), ddof=1):.2f}"


# ---- accuracies


def test_the_means_of_both_networks_are_those_of_the_kept_predictions():
    for name, folder in (("plain", "seeds/plain"), ("batch norm", "seeds/bn")):
        for page in ("README.md", "results.md"):
            row = rf"\| {name}[^|]*(\|[^|]*)+\| \**{mean_of(folder)}\** {spread_of(folder)} \|"
            assert re.search(row, text_of(page)), (page, row)
        accuracies = accuracies_of(folder).values()
        assert f"{100 * min(accuracies):.2f}, {100 * max(accuracies):.2f}" in text_of("results.md")


@pytest.mark.parametrize("name", ["fast", "record", "plain_record", "record_long", "resnet20_record"])
def test_the_recipes_accuracies_are_those_of_the_kept_predictions(name):
    folder = f"recipes/{name}"
    row = next(
        line for line in (ROOT / "docs/results.md").read_text().splitlines() if line.startswith(f"| `{name}.yaml`")
    )
    assert f"| {len(accuracies_of(folder))} | **{mean_of(folder)}** {spread_of(folder)} |" in row
    head = (ROOT / f"configs/{name}.yaml").read_text()
    assert mean_of(folder) in head
    if name != "fast":
        views = mean_of(folder, "flip_shift")
        assert f"| {views} |" in row
        assert f"{views} with test-time augmentation" in " ".join(head.replace("#", "").split())


def test_the_accuracies_of_longer_and_other_networks_are_those_of_the_kept_predictions():
    assert f"reaches {mean_of('resnet20')} {spread_of('resnet20')} (three seeds)" in text_of("results.md")
    longest = [100 * accuracy for accuracy in accuracies_of("recipes/record_300").values()]
    views = mean_of("recipes/record_300", "flip_shift")
    said = "reach {:.2f} and {:.2f} % with two seeds, {} with test-time augmentation"
    assert said.format(*longest, views) in text_of("results.md")
    folder = "recipes/record_distilled"
    views = mean_of(folder, "flip_shift")
    longer = [mean_of("recipes/record_long", tta) for tta in ("none", "flip_shift")]
    assert f"reaches {mean_of(folder)} with one seed, {views} with test-time augmentation" in text_of("results.md")
    assert f"three seeds reach {longer[0].removesuffix(' %')} and {longer[1]}, so" in text_of("results.md")


def test_the_one_run_of_the_plain_network_at_length_has_the_accuracies_that_are_said():
    plain = [accuracies_of("recipes/plain_record_long", tta) for tta in ("none", "flip_shift")]
    longer = [accuracies_of("recipes/record_long", tta) for tta in ("none", "flip_shift")]
    numbers = [[100 * accuracies["seed0"] for accuracies in both] for both in (plain, longer)]
    said = "has one run so far, of seed 0: {:.2f} %, with test-time augmentation {:.2f} %".format(*numbers[0])
    more = "has {:.2f} and {:.2f} %, {:.2f} and {:.2f} points more"
    assert [list(accuracies) for accuracies in plain] == [["seed0"]] * 2 and said in text_of("results.md")
    assert more.format(*numbers[1], *np.subtract(*reversed(numbers))) in text_of("results.md")
    minutes = RunDirectory(RESULTS / "recipes/plain_record_long/seed0").read_summary()["train_seconds"] / 60
    assert f"{minutes:.0f} minutes on two cores in float32, beside light work)" in text_of("results.md")


def test_the_speeds_of_resnet_20_and_of_the_batch_norm_network_are_those_of_their_runs():
    places = ("resnet20_record/seed0", "resnet20_record/seed1", "record_distilled/seed0")
    speeds = [RunDirectory(RESULTS / "recipes" / place).read_summary()["images_per_second"] for place in places]
    assert "{:.0f} and {:.0f} images/s, against {:.0f} of".format(*speeds) in text_of("results.md")


@pytest.mark.parametrize("name", ["record/seed0", "plain_record/seed1"])
def test_a_network_that_comes_along_has_the_accuracy_that_is_said_and_the_weights_of_its_predictions(name):
    run = RunDirectory(RESULTS / "weights" / name)
    assert run.has_predictions() and run.has_predictions("flip_shift")  # which are bound to best.keras
    both = [run.read_predictions(tta) for tta in ("none", "flip_shift")]
    plain, views = (100 * np.mean(logits.argmax(1) == labels) for logits, labels in both)
    minutes = run.read_summary()["train_seconds"] / 60
    assert f"{minutes:.0f} | {plain:.2f} % | {views:.2f} % |" in text_of("results.md")
    assert name != "record/seed0" or f"The better one ({plain:.2f} % of the test images)" in text_of("README.md")
    assert run.best_file.stat().st_size < 1.5e6


# ---- differences


@pytest.mark.parametrize(
    ("page", "first", "second", "tta", "said"),
    [
        ("README.md", "seeds/bn", "seeds/plain", "none", "by {} percentage points, 95 % interval {} to {} (ten seeds"),
        ("README.md", "recipes/record", "recipes/plain_record", "none", "{} points remain, which is not significant"),
        ("README.md", "recipes/record", "recipes/plain_record", "none", "significant ({1} to {2}, three seeds)"),
        ("results.md", "seeds/bn", "seeds/plain", "none", "by {} percentage points, with a 95 % interval of {} to {}"),
        ("results.md", "resnet20", "seeds/bn", "none", "{} points more than the batch-norm network ({} to {};"),
        ("results.md", "recipes/record", "recipes/plain_record", "none", "{} points, with a 95 % interval of {} to {}"),
        ("results.md", "recipes/record_long", "recipes/record", "none", "{} points, with a 95 % interval of {} to {}"),
        (
            "results.md",
            "recipes/record_long",
            "recipes/record",
            "flip_shift",
            "{} points more ({} to {}; a second",
        ),
    ],
)
def test_a_difference_is_that_of_the_kept_predictions(page, first, second, tta, said):
    found = metrics.compare_groups(accuracies_of(first, tta), accuracies_of(second, tta))
    numbers = (f"{100 * number:.2f}" for number in (found["difference"], *found["interval_95"]))
    assert said.format(*numbers) in text_of(page)


def test_the_lead_of_resnet_20_is_that_of_the_kept_predictions():
    resnet, ours = ("recipes/resnet20_record", "recipes/record")
    each = "reaches {:.2f} and {:.2f} %".format(*sorted(100 * one for one in accuracies_of(resnet).values()))
    differences = [
        metrics.compare_groups(accuracies_of(resnet, tta), accuracies_of(ours, tta))["difference"]
        for tta in ("none", "flip_shift")
    ]
    said = "on average {:.2f} points more than the batch-norm network, {:.2f} with test-time augmentation"
    said = said.format(*(100 * difference for difference in differences))
    assert f"{each}, {said}" in text_of("results.md")


def test_the_gains_of_choosing_on_the_test_set_are_those_of_the_comparison():
    found = json.loads((RESULTS / "optimism/comparison.json").read_text())["comparison"]
    for each in found["optimism"]:
        network, schedule = each["group"].split("-")
        gain = each["gain_over_last_epoch"]
        low, high = (f"{100 * end:.2f}".replace("0.00", "0") for end in gain["interval_95"])
        mean = f"{100 * found['groups'][each['group']]['mean']:.2f} %"
        row = rf"\| {schedule} \| {network.replace('bn', 'batch norm')} \| {each['runs']} \| "
        row += rf"{100 * gain['mean']:.2f} \({low} to {high}\) \| [0-9.]+ \| {mean} \|"
        assert re.search(row, text_of("results.md")), row


# ---- studies


def findings_of(study: str) -> list[dict]:
    """Each finding's numbers, with those of the ways in which the documents write them."""
    found = json.loads((RESULTS / "studies" / study / "verdict.json").read_text())["findings"]
    for each in found:
        low, high = each["interval_95"] or (np.nan, np.nan)
        first, second = each["means"]
        each.update(low=low, high=high, fewer=-each["difference"], least=-high, most=-low, mean=first, other=second)
        for name in ("difference", "low", "high", "mean", "other"):  # of logarithms
            each[f"times_{name}"] = 10 ** each[name]
    return found


@pytest.mark.parametrize(
    ("study", "number", "said"),
    [
        ("accuracy", 0, "better: supported.** By {difference:.2f} points, {low:.2f} to {high:.2f} ("),
        ("gradients", 0, "contradicted,** in the measure chosen beforehand"),
        ("gradients", 0, "norm is {times_other:.1f} times the last layer's without batch norm and {times_mean:.0f} "),
        ("gradients", 0, "a ratio of {times_difference:.1f} ({times_low:.1f} to {times_high:.1f})"),
        (
            "convergence",
            0,
            "convergence: supported.** To reach 60, 70, 75 and 80 % validation accuracy it needs {mean:.2f} ",
        ),
        ("convergence", 0, "the plain network {other:.2f} ({least:.2f} to {most:.2f} fewer)"),
        ("convergence", 1, "in seconds {mean:.0f} and {other:.0f} ({least:.0f} to {most:.0f} fewer"),
        (
            "initialization",
            0,
            "varies by {mean:.1f} points with it and by {other:.1f} without: {fewer:.1f} points less",
        ),
        ("initialization", 0, "(95 % interval: {least:.1f} to {most:.1f})"),
        ("initializer", 0, "varies by {mean:.1f} points with batch norm and {other:.1f} without: not decided"),
        ("initializer", 0, "({most:.1f} fewer to {high:.1f} more; about {seeds_needed} seeds"),
        ("learning_rate", 0, "{times_difference:.0f} times as large ({times_low:.1f} to {times_high:.0f} times; three"),
        ("learning_rate_sgd", 0, "{times_difference:.0f} times as large ({times_low:.0f} to {times_high:.0f} times;"),
        ("batch_size", 0, "loses {other:.1f} points against its best batch size, the plain network {mean:.1f} and"),
        ("batch_size", 0, "the differences are {fewer:.2f} points ({least:.2f} to {most:.2f})"),
        ("batch_size", 1, "group norm {mean:.1f}; the differences are"),
        ("batch_size", 1, "and {fewer:.2f} ({least:.2f} to {most:.2f})"),
        ("placement", 0, "Not decided after ten epochs of Adam: {mean:.2f} % before it and {other:.2f} % after it"),
        ("placement", 0, "({most:.2f} points fewer to {high:.2f} more; some 380 seeds"),
        ("precision", 0, "the plain network has {fewer:.2f} points fewer than in float32 ({least:.2f} to {most:.2f} "),
        ("precision", 1, "batch norm {fewer:.2f} fewer ({most:.2f} fewer to {high:.2f} more; twelve seeds each"),
    ],
)
def test_a_study_is_told_as_its_verdict_found(study, number, said):
    finding = findings_of(study)[number]
    assert said.format(**finding) in text_of("studies.md"), said.format(**finding)
    answer = re.search("supported|contradicted|not decided", said.lower())
    assert not answer or answer[0] == finding["answer"]


@pytest.mark.parametrize(
    ("arm", "said"),
    [
        ("Adam", "Adam instead of Muon costs {fewer:.2f} points ({least:.2f} to {most:.2f})"),
        ("SGD", "SGD {fewer:.2f} ({least:.2f} to {most:.2f})"),
        ("no ghost batches", "two ghost batches {fewer:.2f} ({least:.2f} to {most:.2f})"),
        ("cosine fall", "linear fall {fewer:.2f} ({least:.2f} to {most:.2f})"),
        ("norm after ReLU", "after the ReLU {fewer:.2f} ({least:.2f} to {most:.2f})"),
        ("norm before pooling", "differs by {difference:.2f} points ({low:.2f} to {high:.2f})"),
    ],
)
def test_the_ablation_is_told_as_it_was_found(arm, said):
    finding = next(each for each in findings_of("ablation") if each["first"] == arm)
    assert said.format(**finding) in text_of("results.md"), said.format(**finding)


# ---- speed


def ratios_of(files: list[str], contestant: str) -> dict[tuple[str, int], list[tuple[float, float]]]:
    """By (network, batch): of each run of the benchmark, the speed as multiples of stock Keras's and PyTorch's best."""
    found: dict[tuple[str, int], list[tuple[float, float]]] = {}
    for file in files:
        for group in json.loads((RESULTS / "benchmarks" / file / "throughput.json").read_text())["groups"]:
            speeds = {name: each["train"] for name, each in group["images_per_second"].items()}
            if contestant in speeds:
                torch = max(speed for name, speed in speeds.items() if name.startswith("torch"))
                ratios = speeds[contestant] / speeds["keras float32"], speeds[contestant] / torch
                found.setdefault((group["network"], group["batch"]), []).append(ratios)
    return found


def said_of(text: str) -> tuple[list[float], int]:
    """The numbers of a text such as "1.65 to 1.8 times", and the fewest decimals of them."""
    numbers = re.findall(r"\d+\.\d+", text)
    return [float(number) for number in numbers], min(len(number.partition(".")[2]) for number in numbers)


@pytest.mark.parametrize("ghosts", ["", ", two ghost batches"])
def test_the_table_of_throughput_is_from_the_lowest_to_the_highest_of_the_benchmarks(ghosts):
    for (network, batch), ratios in ratios_of(THROUGHPUT, f"ours bfloat16{ghosts}").items():
        name = {"bn": "batch norm", "plain": "plain"}[network] + ghosts
        row = re.search(rf"\| {name} \| {batch} \| ([^|]+) \| ([^|]+) \|", text_of("performance.md"))
        for said, measured in zip(row.groups(), zip(*ratios, strict=True), strict=True):
            numbers, decimals = said_of(said)
            ends = (min(measured), max(measured)) if len(numbers) == 2 else (statistics.median(measured),)
            for number, end in zip(numbers, ends, strict=True):
                assert abs(number - end) <= 0.51 * 10**-decimals, (name, batch, said, measured)


def test_the_speed_on_processors_with_avx2_alone_is_that_of_the_benchmark():
    ratios = ratios_of(["avx2"], "ours float32")
    keras, torch = zip(*(ratios[name, 128][0] for name in ("bn", "plain")), strict=True)
    said = (
        "both networks train at {:.1f} and {:.1f} times stock Keras, and level with PyTorch's best: {:.2f} and {:.2f} "
    )
    assert f"{said.format(*keras, *torch)}times" in text_of("performance.md")


def test_the_readme_says_the_lowest_and_the_highest_ratio_with_batch_norm():
    measured = [ratios_of(THROUGHPUT, "ours bfloat16"), ratios_of(["avx2"], "ours float32")]
    pairs = [ratios for found in measured for (network, _), ratios in found.items() if network == "bn"]
    keras, torch = zip(*itertools.chain(*pairs), strict=True)
    said = f"{min(torch):.1f} to {max(torch):.1f} times as fast as the fastest of up to five set-ups of PyTorch, and "
    assert f"{said}{min(keras):.1f} to {max(keras):.1f} times as fast as stock Keras" in text_of("README.md")


def test_the_seconds_to_an_accuracy_are_those_of_the_benchmark():
    measured = json.loads((RESULTS / "benchmarks/time_to_accuracy.json").read_text())
    reached = {
        name: sorted(next(end for end, accuracy in curve if accuracy >= measured["target"]) for curve in curves)
        for name, curves in measured["curves"].items()
    }
    keras, fast = (statistics.median(reached[name]) for name in ("keras", "fast"))
    said = "{:.0f} s (the median of three runs: {:.0f}, {:.0f} and {:.0f})".format(keras, *reached["keras"])
    assert said in text_of("results.md")
    assert f"after {fast:.0f} s, which is its whole length: {keras / fast:.1f} times sooner" in text_of("results.md")


def test_the_seconds_of_the_commands_are_those_of_the_benchmark():
    measured = json.loads((RESULTS / "benchmarks/start.json").read_text())
    seconds = [measured["one_step_seconds"], measured["evaluation_seconds"]["first"], measured["help_seconds"]]
    sentence = r"last file, takes (\S+) s, predicting the 10,000 test images (\S+) s, `--help` (\S+) s"
    said = re.search(sentence, text_of("performance.md"))
    assert list(said.groups()) == [f"{seconds[0]:.0f}", f"{seconds[1]:.0f}", f"{seconds[2]:.2f}"]

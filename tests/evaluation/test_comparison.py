"""How runs are grouped into arms, what an arm is called, and how every arm is compared with a baseline."""

import math
from dataclasses import replace

import numpy as np
import pytest

from experiment.errors import UserError
from experiment.evaluation import metrics
from experiment.evaluation.comparison import compare
from experiment.reporting import answer

BN = "model.batch_norm=after_activation"
SLOW = "optimizer.learning_rate=1e-4"
TEST_AS_VALIDATION = "data.protocol=test_as_validation"


def labels(comparison) -> list[str]:
    return [group.label for group in comparison.groups]


# ---- arms and their names


def test_runs_that_differ_by_their_seed_alone_are_one_arm(evaluated):
    runs = [evaluated("plain/seed0"), evaluated("plain/seed1"), evaluated("bn/seed0", BN)]
    assert [(group.label, len(group.runs)) for group in compare(runs).groups] == [("plain", 2), ("bn", 1)]


def test_no_run_at_all_is_a_mistake_that_is_told():
    with pytest.raises(UserError, match="no run to compare"):
        compare([])


def test_a_seed_that_comes_twice_counts_once(evaluated):
    runs = [evaluated("plain/seed0", correct=70), evaluated("plain/seed1"), evaluated("copy/seed0", correct=70)]
    (group,) = compare(runs).groups
    assert [run.name for run in group.runs] == ["plain/seed0", "plain/seed1"]


@pytest.mark.parametrize("summary", [{"parameters": 10}, {"architecture": "3.15 1234"}])
def test_runs_of_a_network_that_was_changed_between_them_are_no_arm(evaluated, summary):
    first = {"architecture": "3.15 5678"} if "architecture" in summary else {}
    runs = [evaluated("plain/seed0", **first), evaluated("plain/seed1"), evaluated("plain/seed2", **summary)]
    with pytest.raises(
        UserError, match=r"plain/seed[01] and plain/seed2 have the same keys .* models/vgg.py was changed"
    ):
        compare(runs)
    other = evaluated("plain/seed3", architecture="3.16 9999")  # another version of Keras describes layers otherwise
    assert len(compare([*runs[:2], other]).baseline.runs) == 3  # an older run has no digest


def test_runs_of_other_teachers_at_the_same_place_are_no_arm(evaluated):
    taught = [evaluated(f"bn/seed{seed}", "distillation.teachers=x", teachers=["1" * 64]) for seed in (0, 1)]
    assert len(compare([*taught, evaluated("plain/seed0")]).groups) == 2
    other = evaluated("bn/seed2", "distillation.teachers=x", teachers=["1" * 64, "2" * 64])
    with pytest.raises(UserError, match=r"bn/seed0 and bn/seed2 have the same distillation\.teachers, but what is"):
        compare([*taught, other])


def test_arms_between_which_the_network_was_changed_say_so(evaluated):
    before, after = {"architecture": "3.15 1234"}, {"architecture": "3.15 5678"}
    runs = [evaluated("plain/seed0"), evaluated("plain/seed1", **before), evaluated("slow/seed0", SLOW, **after)]
    assert compare(runs).differences[0].keys == ["optimizer.learning_rate", "models/vgg.py"]
    runs = [runs[1], evaluated("bn/seed0", BN, **after)]  # another network by its keys
    assert compare(runs).differences[0].keys == ["model.norm"]


def test_an_arm_is_called_by_its_title(evaluated):
    runs = [evaluated("plain/seed0"), evaluated("plain/seed1", "title=Network A"), evaluated("bn/seed0", BN)]
    assert labels(compare(runs)) == ["Network A", "bn"]  # one of its runs says so: the others are older


def test_arms_of_one_directory_have_its_runs_in_their_names(evaluated):
    runs = [evaluated("plain/seed2"), evaluated("plain/seed3", SLOW)]
    assert labels(compare(runs)) == ["plain (plain/seed2)", "plain (plain/seed3)"]


def test_what_all_titles_end_with_is_left_out_unless_they_become_equal(evaluated):
    runs = [evaluated("a/seed0", "title=one, epochs=2"), evaluated("b/seed0", "title=other, epochs=2", SLOW)]
    assert labels(compare(runs)) == ["one", "other"]
    assert "All arms: epochs=2." in answer.answer(compare(runs))
    runs = [evaluated("c/seed0", "title=one, b=1, a=1"), evaluated("d/seed0", "title=one, b=2, a=1", SLOW)]
    assert labels(compare(runs)) == ["one, b=1", "one, b=2"]
    assert labels(compare(runs[:1])) == ["one, b=1, a=1"]


def test_another_network_is_one_difference(evaluated):
    runs = [evaluated("plain/seed0"), evaluated("resnet/seed0", "model={name: resnet}", SLOW)]
    assert compare(runs).differences[0].keys == ["model.name", "optimizer.learning_rate"]


def test_two_arms_of_one_title_are_told_apart_by_their_directories(evaluated):
    runs = [evaluated("a/seed0", "title=same"), evaluated("b/seed0", "title=same", SLOW)]
    assert labels(compare(runs)) == ["same (a)", "same (b)"]
    runs[1] = evaluated("a/seed1", "title=same", "seed=1", SLOW)  # a file that was changed between two seeds
    assert labels(compare(runs)) == ["same (a/seed0)", "same (a/seed1)"]
    runs = [evaluated("c/seed0", "title=same, epochs=2"), evaluated("d/seed0", "title=same, epochs=2", SLOW)]
    assert labels(compare(runs)) == ["same (c)", "same (d)"]
    assert "All arms: epochs=2." in answer.answer(compare(runs))
    runs = [evaluated("e/seed0", "title=same", data="generated")]
    runs += [evaluated("f/seed0", "title=same"), evaluated("g/seed0", "title=same", SLOW)]
    assert sorted(labels(compare(runs))) == ["same (f)", "same (g)", "same (generated)"]


def test_one_title_on_two_data_sets_is_told_apart_by_them(evaluated):
    runs = [evaluated("a/seed0", "title=same"), evaluated("b/seed0", "title=same", data="generated")]
    assert labels(compare(runs)) == ["same (cifar10)", "same (generated)"]


# ---- the baseline


@pytest.fixture
def three_arms(evaluated):
    runs = [evaluated("plain/seed0", correct=70), evaluated("slow/seed0", SLOW, correct=10)]
    return [*runs, evaluated("deep/bn/seed0", BN, "title=batch norm, epochs=3", correct=90)]


def test_every_arm_is_compared_with_the_first_and_says_in_which_keys_it_differs(three_arms):
    found = compare(three_arms)
    assert labels(found) == ["plain", "slow", "batch norm, epochs=3"]
    assert [(each.first.label, each.second.label, each.keys) for each in found.differences] == [
        ("slow", "plain", ["optimizer.learning_rate"]),
        ("batch norm, epochs=3", "plain", ["model.norm"]),
    ]
    assert [each.numbers["difference"] for each in found.differences] == pytest.approx([-0.6, 0.2])


@pytest.mark.parametrize(
    "name", ["batch norm, epochs=3", "batch norm", "bn", "bn.yaml", "deep/bn", "somewhere/deep/bn/"]
)
def test_a_baseline_is_named_by_title_directory_or_file(three_arms, name):
    found = compare(three_arms, name)
    assert labels(found) == ["batch norm, epochs=3", "plain", "slow"]
    assert [each.numbers["difference"] for each in found.differences] == pytest.approx([-0.2, -0.8])


@pytest.mark.parametrize("name", ["norm", "b", "deep", ""])
def test_a_baseline_that_is_none_of_them_is_refused_with_those_that_there_are(three_arms, name):
    if not name:
        assert labels(compare(three_arms, name))[0] == "plain"  # nothing named is the default
        return
    with pytest.raises(UserError) as caught:
        compare(three_arms, name)
    assert all(f"\n  {label} (in " in str(caught.value) for label in ("plain", "slow", "batch norm, epochs=3"))


def test_a_baseline_is_named_by_its_whole_title_and_by_any_ending_of_a_configuration(evaluated):
    runs = [evaluated("a/seed0", "title='plain, epochs=2'"), evaluated("b/seed0", "title='slow, epochs=2'", SLOW)]
    assert labels(compare(runs)) == ["plain", "slow"]
    for name in ("slow, epochs=2", "slow", "b", "b.yml"):
        assert labels(compare(runs, name)) == ["slow", "plain"]


def test_two_arms_never_have_one_label(evaluated):
    runs = [evaluated("a/mine/seed0", correct=70), evaluated("b/mine/seed0", SLOW, correct=90)]
    runs = [replace(run, name="mine/seed0") for run in runs]  # as `experiment.load_result` names them
    found = compare(runs)
    assert len(set(labels(found))) == 2
    assert len(found.as_dict()["groups"]) == 2
    for label in labels(found):
        assert compare(runs, label).baseline.label == label


def test_a_name_that_two_arms_share_is_no_baseline(evaluated):
    runs = [evaluated("x/plain/seed0"), evaluated("y/plain/seed0", SLOW)]
    with pytest.raises(UserError, match="several arms have this name"):
        compare(runs, "plain")


def test_a_name_that_is_one_arms_title_and_anothers_directory_is_no_baseline(evaluated):
    runs = [evaluated("x/plain/seed0", "title=own"), evaluated("y/other/seed0", "title=plain", SLOW)]
    with pytest.raises(UserError, match="several arms have this name"):
        compare(runs, "plain")
    assert labels(compare(runs, "own"))[0] == "own"


def test_the_arm_whose_whole_directory_is_named_goes_before_one_deeper(evaluated):
    runs = [evaluated("old/plain/seed0"), evaluated("plain/seed0", SLOW)]
    assert compare(runs, "plain").baseline.first.directory == "plain"


def test_the_best_is_compared_with_every_other_and_shown_beside_the_baseline(three_arms):
    found = compare(three_arms, "slow")
    assert found.best.label == "batch norm, epochs=3"
    assert [each.second.label for each in found.best_minus_others] == ["plain", "slow"]  # the runner-up first
    assert [group.label for group in found.rivals] == ["slow", "batch norm, epochs=3"]
    assert [group.label for group in compare(three_arms, "bn").rivals] == ["batch norm, epochs=3", "plain"]


def test_the_best_is_corrected_for_all_pairs_of_arms_and_a_difference_from_the_baseline_for_those(evaluated):
    arms = {"plain": (70, 72, 71, 74), "slow": (74, 75, 73, 77), "slower": (78, 80, 77, 78)}
    runs = [
        evaluated(f"{name}/seed{seed}", f"batch_size={10 + place}", correct=correct)
        for place, (name, counts) in enumerate(arms.items())
        for seed, correct in enumerate(counts)
    ]
    found = compare(runs)
    for each in found.best_minus_others:
        uncorrected = metrics.compare_groups(each.first.accuracies, each.second.accuracies)
        assert each.numbers["t_test_p_bonferroni"] == pytest.approx(min(1, 3 * uncorrected["t_test_p"]))
        assert each.numbers["interval_95"][0] < uncorrected["interval_95"][0]
        assert each.decided == (each.numbers["interval_95"][0] > 0)  # the interval and the test agree
    own = [each.numbers["t_test_p"] for each in found.differences]
    assert [each.numbers["t_test_p_holm"] for each in found.differences] == metrics.holm(own)


def test_one_arm_alone_has_no_difference_and_no_rival(evaluated):
    found = compare([evaluated("some/seed0", BN)])
    assert (found.differences, found.best_minus_others, found.rivals) == ((), (), None)
    assert found.best is found.baseline


def test_several_comparisons_are_corrected(evaluated):
    runs = []
    for arm, (override, correct) in enumerate([("seed=0", 50), (BN, 60), (SLOW, 51)]):
        runs += [
            evaluated(f"arm{arm}/seed{seed}", override, f"seed={seed}", correct=correct + seed**arm)
            for seed in range(4)
        ]
    for test in ("t_test_p", "permutation_p"):
        one, other = (each.numbers for each in compare(runs).differences)
        smaller, larger = sorted((one, other), key=lambda numbers: numbers[test])
        assert smaller[f"{test}_holm"] == pytest.approx(2 * smaller[test])
        assert larger[f"{test}_holm"] == pytest.approx(max(larger[test], 2 * smaller[test]))


KINDS = {
    "real held out": ("cifar10", []),
    "real optimistic": ("cifar10", [TEST_AS_VALIDATION]),
    "generated": ("generated", []),
    "generated optimistic": ("generated", [TEST_AS_VALIDATION]),
}


@pytest.mark.parametrize("chosen", KINDS)
def test_only_runs_of_the_baselines_data_and_protocol_are_compared_with_it(evaluated, chosen):
    runs = {kind: evaluated(f"{kind}/seed0", *KINDS[kind][1], data=KINDS[kind][0]) for kind in KINDS}
    found = compare(list(runs.values()), chosen)
    assert [list(group.runs) for group in found.compared] == [[runs[chosen]]]
    assert found.differences == () and len(found.groups) == 4 and len(found.results) == 4


def test_other_images_under_the_same_name_are_other_data(evaluated):
    runs = [evaluated("plain/seed0"), evaluated("bn/seed0", BN)]
    runs[1].summary["data"]["sha256"] = "1" * 64
    assert compare(runs).differences == ()


# ---- numbers


def test_arms_are_compared_by_their_means(evaluated):
    runs = [evaluated("plain/seed0", correct=70), evaluated("plain/seed1", correct=80)]
    found = compare([*runs, evaluated("bn/seed0", BN, correct=90)]).as_dict()
    plain = found["groups"]["plain"]
    assert (plain["runs"], plain["mean"], plain["sd"]) == (2, pytest.approx(0.75), pytest.approx(0.1 / math.sqrt(2)))
    assert plain["interval_95"] is None and found["groups"]["bn"]["sd"] is None
    (difference,) = found["group_differences"]
    assert (difference["first"], difference["second"], difference["runs"]) == ("bn", "plain", [1, 2])
    assert difference["difference"] == pytest.approx(0.15)


@pytest.mark.parametrize("correct", [(100, 99, 100), (0, 1, 0)])
def test_no_interval_goes_beyond_what_an_accuracy_can_be(evaluated, correct):
    runs = [evaluated(f"plain/seed{seed}", correct=each) for seed, each in enumerate(correct)]
    low, high = compare(runs).baseline.interval_95
    assert 0 <= low < high <= 1 and (low == 0 or high == 1)


def test_runs_of_one_seed_are_compared_image_by_image(evaluated):
    runs = [evaluated("plain/seed0", correct=70), evaluated("plain/seed1", correct=80)]
    (pair,) = compare([*runs, evaluated("bn/seed1", BN, correct=90)]).pairs
    assert (pair.first.name, pair.second.name) == ("bn/seed1", "plain/seed1")
    assert (pair.numbers["only_first_correct"], pair.numbers["only_second_correct"]) == (10, 0)
    assert pair.numbers["mcnemar_p"] == pytest.approx(2 / 2**10)


def test_any_two_runs_are_compared_image_by_image(evaluated):
    runs = [evaluated("plain/seed0", correct=70), evaluated("plain/seed1", correct=80)]
    (pair,) = compare(runs).pairs
    assert pair.numbers["difference"] == pytest.approx(-0.1)


def test_two_runs_on_different_images_are_no_pair(evaluated):
    runs = [evaluated("plain/seed0", correct=70), evaluated("plain/seed1", correct=80)]
    runs[1].labels[:] = runs[1].labels[::-1]
    assert compare(runs).pairs == ()
    cats, dogs = evaluated("cats/seed0"), evaluated("dogs/seed0")
    dogs.summary["data"]["sha256"] = "2" * 64  # of the same labels
    assert compare([cats, dogs]).pairs == ()


def test_optimism_is_the_gain_of_choosing_on_the_test_set(evaluated):
    runs = [evaluated(f"plain/seed{seed}", correct=70 + seed) for seed in (0, 1, 2)]
    runs += [evaluated(f"flattered/seed{seed}", TEST_AS_VALIDATION, correct=75 + 3 * seed) for seed in (0, 1, 2)]
    (found,) = compare(runs).optimism
    assert found.gain["mean"] == pytest.approx(0.1)  # its best epoch 0.7, its last 0.6
    assert found.held_out.numbers["difference"] == pytest.approx(0.07)
    assert found.held_out.numbers["paired"]


def test_what_was_reported_is_not_said_of_synthetic_images(evaluated):
    reported = ["reported={test_accuracy: 0.5, source: a book}"]
    for data, expected in (("cifar10", 0.5), ("generated", None)):
        group = compare([evaluated(f"{data}/seed0", *reported, data=data)]).baseline
        assert (group.reported and group.reported.test_accuracy) == expected


def test_the_mean_of_probabilities_is_over_the_runs(evaluated):
    runs = [evaluated("plain/seed0", correct=0), evaluated("plain/seed1", correct=100)]
    probabilities = compare(runs).baseline.mean_probabilities
    assert np.allclose(probabilities.sum(1), 1) and probabilities.max() < 0.6


def test_one_title_on_two_data_sets_of_one_name_is_told_apart_by_the_directories(evaluated, tmp_path):
    runs = [evaluated(f"{name}/seed0", "title=net") for name in ("cats", "dogs")]
    runs[1].summary["data"]["sha256"] = "2" * 64
    assert [group.label for group in compare(runs).groups] == ["net (cats)", "net (dogs)"]

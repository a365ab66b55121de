"""check_layers.py --network: the layers of a network, its parameters and its multiply-adds."""

from pathlib import Path
from typing import Literal

import numpy as np
import pytest

import check_layers
from experiment import config as configuration
from experiment.errors import UserError
from layer_checks import network_table
from models import network

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "numpy-layers.md").read_text()


def cells_of(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]


def table_of(name: str, *overrides: str) -> list[list[str]]:
    return cells_of(network_table.table(configuration.load(name, overrides)))


def numbers_of(rows: list[list[str]], column: int) -> list[int]:
    return [int(row[column].replace(",", "")) for row in rows if row[column]]


def test_the_table_of_the_docs_is_what_the_command_prints(capsys):
    assert check_layers.main(check_layers.parse_arguments(["--network", "bn.yaml"])) == 0
    assert f"\n\n{capsys.readouterr().out}\n" in PAGE


def test_network_a_is_the_table_of_network_b_without_the_marked_rows():
    plain, bn = table_of("plain.yaml"), table_of("bn.yaml")
    assert [row for row in bn[:-3] if not row[0].startswith("*")] == plain[:-1]
    assert plain[-1][2:] == bn[-1][2:] == ["294,810", "13,419,776"]
    assert bn[-3][2:] == ["296,730", "13,419,776"] and bn[-2][2] == "960"


@pytest.mark.parametrize("name", ["plain.yaml", "bn.yaml", "resnet20.yaml"])
def test_the_sums_are_those_of_the_rows(name):
    rows = table_of(name)
    end = next(number for number, row in enumerate(rows) if row[0] == "sum")
    for column in (2, 3):
        assert numbers_of(rows[end : end + 1], column) == [sum(numbers_of(rows[:end], column))]


def test_resnet_has_the_numbers_of_its_paper():
    rows = {row[0]: row for row in table_of("resnet20.yaml")}
    parameters, averages = f"{269_722 + 1_376:,}", "1,376"
    assert rows["sum"][2:] == [parameters, "40,551,040"] and rows["moving averages in it"][2] == averages
    assert f"`resnet20.yaml` has {parameters} parameters, {averages} of them moving averages, and 40.55" in PAGE


def test_images_and_classes_are_those_of_the_data(tmp_path):
    assert table_of("plain.yaml", "data.name=cifar100")[-2][1:] == ["100", "12,900", "12,800"]
    images, labels = np.zeros((6, 16, 8, 1), np.uint8), np.arange(6) % 3
    np.savez(tmp_path / "own.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    rows = table_of("plain.yaml", f"data.name={tmp_path / 'own.npz'}")
    assert (rows[0][1], rows[1][1], rows[-2][1]) == ("16×8×1", "16×8×16", "3")


class Network(network.Network):
    name: Literal["shared"] = "shared"

    def build(self, inputs, classes, layers):
        import keras

        shared = keras.layers.Conv2D(3, 3, padding="same", strides=1, use_bias=False)
        maps = keras.ops.relu(shared(shared(inputs)))
        maps = keras.layers.Conv2D(6, 2, strides=2, groups=3, use_bias=False)(maps)
        maps = keras.layers.Conv2DTranspose(2, 2, use_bias=False)(maps)
        return layers.dense(classes)(keras.layers.Flatten()(maps))


def test_a_shared_layer_has_its_parameters_once_and_what_is_not_counted_says_so():
    config = configuration.load("plain.yaml").model_copy(update={"model": Network()})
    rows = cells_of(network_table.table(config))
    convolutions = [row[1:] for row in rows if row[0].startswith("Conv2D ")]
    assert convolutions == [
        ["32×32×3", "81", f"{32 * 32 * 81:,}"],
        ["32×32×3", "", f"{32 * 32 * 81:,}"],
        ["16×16×6", "24", f"{16 * 16 * 24:,}"],  # each output channel reads one of three input channels
    ]
    assert next(row for row in rows if row[0].startswith("Conv2DTranspose"))[3] == rows[-1][3] == "not counted"


def test_a_configuration_that_is_not_there_is_refused():
    with pytest.raises(UserError, match="nothing"):
        check_layers.main(check_layers.parse_arguments(["--network", "nothing.yaml"]))

"""Compares the bundled data with what their sources say, and checks that packing keeps every value."""

from pathlib import Path

import numpy as np
import pytest

from statewise.models import load_dataset
from statewise.models.datasets import pack


def test_vowels() -> None:
    data = load_dataset("vowels")
    assert (len(data.train), len(data.test)) == (270, 370)
    lengths = [len(utterance) for utterance in (*data.train, *data.test)]
    assert (min(lengths), max(lengths)) == (7, 29)
    assert {utterance.shape[1] for utterance in data.train} == {12}
    np.testing.assert_array_equal(np.bincount(data.train_labels), [30] * 9)
    assert data.train[0].dtype == np.float32


def test_gait() -> None:
    data = load_dataset("gait")
    assert data.values.shape == (7040, 9)
    assert data.split == 5632
    assert data.channels[0] == "ankle_horiz_fwd"
    np.testing.assert_array_equal(data.values[0, :3], [101, 1000, 297])


def test_sunspots() -> None:
    data = load_dataset("sunspots")
    assert data.values.shape == (260 * 12, 1)
    assert len(data.values) - data.split == 624
    np.testing.assert_array_equal(data.values[:2, 0], np.array([58.0, 62.6], np.float32))


def test_names() -> None:
    data = load_dataset("names")
    assert (data.words[0], data.condition_names[data.conditions[0]]) == ("MARY", "female")
    first_man = int(np.argmax(data.conditions))
    assert (data.words[first_man], data.condition_names[1]) == ("JAMES", "male")


def test_g2p() -> None:
    data = load_dataset("g2p")
    said = {"".join(source): target for source, target in zip(data.sources, data.targets, strict=True)}
    assert said["adapt"] == ("AH", "D", "AE", "P", "T")
    assert len({phoneme for target in data.targets for phoneme in target}) == 39


def test_tumour() -> None:
    data = load_dataset("tumour")
    assert len(data.train) == 569
    assert data.train[0].shape == (1, 30)
    assert data.label_names == ("malignant", "benign")
    np.testing.assert_array_equal(np.bincount(data.train_labels), [212, 357])


def test_an_unknown_name_lists_those_there_are() -> None:
    with pytest.raises(ValueError, match="g2p, gait, names, sunspots, tumour, vowels, got 'vovels'"):
        load_dataset("vovels")


def test_packing_keeps_every_value(tmp_path: Path) -> None:
    files = {
        "JapaneseVowels_TRAIN.ts": "# note\n@data\n1.5,2.5:3.5,4.5:2\n",
        "JapaneseVowels_TEST.ts": "@data\n0.25:0.5:1\n",
        "daphnet_s06r02.csv": "timestamp,a,b,c,d,e,f,g,h,i,is_anomaly\n0,1,2,3,4,5,6,7,8,-9,0\n",
        "sunspots_monthly.dat": "TITLE\nYear Jan\n1749 "
        + " ".join(f"{m}.1" for m in range(12))
        + "\n2009 1.0\n",
        "us_census_1990_female_first.txt": "MARY  2.6 2.6 1\n",
        "us_census_1990_male_first.txt": "JAMES 3.3 3.3 1\nJOHN 3.2 6.5 2\n",
        "cmudict.dict": "a AH0\na(2) EY1\nd'or D AO1 R # foreign\n",
        "breast_cancer.csv": "1,2,malignant,benign\n17.99,0.006399,0\n",
    }
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    packed = {name: packer(tmp_path) for name, packer in pack.PACKERS.items()}
    np.testing.assert_array_equal(packed["vowels"]["frames"], [[1.5, 3.5], [2.5, 4.5], [0.25, 0.5]])
    np.testing.assert_array_equal(packed["vowels"]["lengths"], [2, 1])
    np.testing.assert_array_equal(packed["vowels"]["labels"], [1, 0])
    assert packed["vowels"]["train_count"] == 1
    np.testing.assert_array_equal(packed["gait"]["samples"], [[1, 2, 3, 4, 5, 6, 7, 8, -9]])
    np.testing.assert_array_equal(packed["sunspots"]["tenths"], 10 * np.arange(12) + 1)
    assert packed["names"]["names"].tobytes() == b"MARY\nJAMES\nJOHN"
    assert packed["names"]["female_count"] == 1
    assert packed["g2p"]["entries"].tobytes() == b"a AH0\na(2) EY1\nd'or D AO1 R"
    np.testing.assert_array_equal(packed["tumour"]["features"], [[17.99, 0.006399]])
    np.testing.assert_array_equal(packed["tumour"]["classes"], ["malignant", "benign"])

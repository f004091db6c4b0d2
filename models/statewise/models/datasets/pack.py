"""Makes the compact files in data/ from the raw ones: `python -m statewise.models.datasets.pack RAW_DIR`.

It loads nothing and does not run when data is used. The same raw files always give the same bytes.
"""

from __future__ import annotations

import argparse
import csv
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from statewise.models.base import Array

DATA_DIR = Path(__file__).parent.parent / "data"


def pack_vowels(raw: Path) -> dict[str, Array]:
    """Concatenates utterances; float32 holds the six decimals of the source."""
    frames: list[Array] = []
    labels: list[int] = []
    parts: list[int] = []
    for name in ("JapaneseVowels_TRAIN.ts", "JapaneseVowels_TEST.ts"):
        lines = (raw / name).read_text().splitlines()
        cases = [line for line in lines if line and line[0] not in "#@"]
        for case in cases:
            *dimensions, label = case.split(":")
            frames.append(np.array([d.split(",") for d in dimensions], np.float32).T)  # [T, 12]
            labels.append(int(label) - 1)
        parts.append(len(cases))
    return {
        "frames": np.concatenate(frames),
        "lengths": np.array([len(utterance) for utterance in frames], np.uint8),
        "labels": np.array(labels, np.uint8),
        "train_count": np.array(parts[0], np.int32),
    }


def pack_gait(raw: Path) -> dict[str, Array]:
    """Packs nine integer channels; their names come from the header."""
    with (raw / "daphnet_s06r02.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    return {
        "samples": np.array([row[1:10] for row in rows], np.int16),
        "channels": np.array(header[1:10]),
    }


def pack_sunspots(raw: Path) -> dict[str, Array]:
    """Packs months from January 1749 on, in tenths; the year 2009 is incomplete and left out."""
    rows = [line.split() for line in (raw / "sunspots_monthly.dat").read_text().splitlines()]
    years = [row for row in rows if len(row) == 13 and row[0].isdigit() and int(row[0]) <= 2008]
    values = np.array([row[1:] for row in years], np.float64).ravel()
    return {
        "tenths": np.round(values * 10).astype(np.uint16),
        "first_year": np.array(int(years[0][0]), np.int32),
    }


def pack_names(raw: Path) -> dict[str, Array]:
    """Packs every name of both lists, by falling frequency."""
    names: list[str] = []
    counts: list[int] = []
    for sex in ("female", "male"):
        lines = (raw / f"us_census_1990_{sex}_first.txt").read_text().split("\n")
        listed = [line.split()[0] for line in lines if line.strip()]
        names += listed
        counts.append(len(listed))
    return {"names": _as_bytes(names), "female_count": np.array(counts[0], np.int32)}


def pack_g2p(raw: Path) -> dict[str, Array]:
    """Packs entries `word PH0 PH1 ...` unchanged, with alternatives and without comments."""
    lines = (raw / "cmudict.dict").read_text().splitlines()
    entries = [re.sub(r"\s*#.*", "", line).strip() for line in lines]
    return {"entries": _as_bytes([entry for entry in entries if entry])}


def pack_tumour(raw: Path) -> dict[str, Array]:
    """Packs thirty measurements of each case, and its class."""
    with (raw / "breast_cancer.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    table = np.array(rows, np.float64)
    return {
        "features": table[:, :-1],
        "labels": table[:, -1].astype(np.uint8),
        "classes": np.array(header[2:4]),
    }


PACKERS: dict[str, Callable[[Path], dict[str, Array]]] = {
    "vowels": pack_vowels,
    "gait": pack_gait,
    "sunspots": pack_sunspots,
    "names": pack_names,
    "g2p": pack_g2p,
    "tumour": pack_tumour,
}


def main() -> None:
    """Packs every data set."""
    parser = argparse.ArgumentParser(description="Pack the raw data sets into the package's data folder.")
    parser.add_argument("raw", type=Path, help="folder with the raw files named in data/README.md")
    parser.add_argument("--out", type=Path, default=DATA_DIR, help="where to write (default: the package)")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for name, packer in PACKERS.items():
        path = options.out / f"{name}.npz"
        np.savez_compressed(path, **packer(options.raw))  # type: ignore[arg-type]
        print(f"{path.name}: {path.stat().st_size:,} bytes")
    target = options.out / "cmudict.LICENSE"
    target.unlink(missing_ok=True)
    shutil.copyfile(options.raw / "cmudict.LICENSE", target)


def _as_bytes(lines: list[str]) -> Array:
    return np.frombuffer("\n".join(lines).encode(), np.uint8)


if __name__ == "__main__":
    main()

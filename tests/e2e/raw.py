"""Raw data: scanned digits with their labels, four CSV files with some broken lines."""

import csv
import pathlib
import sys

from sklearn.datasets import load_digits

FILES = 4


def main(raw: pathlib.Path) -> None:
    digits = load_digits()
    rows = [[*pixels, label] for pixels, label in zip(digits.data, digits.target)]
    for number in range(FILES):
        with open(raw / f"part-{number}.csv", "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerows(rows[number::FILES])
            writer.writerow(["broken"] * 65)


main(pathlib.Path(sys.argv[1]))

"""The labels of AudioSet (Gemmeke et al., "Audio Set: An ontology and human-labeled dataset for audio events", 2017).

`audioset_labels.csv` holds the 527 classes that were labelled, in the order of the networks' outputs: index, AudioSet
id and name. They are Google's, from https://research.google.com/audioset/, under CC BY 4.0
(https://creativecommons.org/licenses/by/4.0/).
"""

import csv
from functools import cache
from pathlib import Path

FILE = Path(__file__).with_name("audioset_labels.csv")


@cache
def audioset_labels() -> tuple[str, ...]:
    """The names of AudioSet's 527 classes, in the order of the networks' outputs."""
    with FILE.open(encoding="utf-8", newline="") as file:
        return tuple(row["display_name"] for row in csv.DictReader(file))

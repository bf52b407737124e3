"""Logistic regression of scikit-learn, as an alternative to the linear probe."""

from collections.abc import Sequence

import numpy as np
from datasets.utils import tqdm

from hf_gar.evaluation.linear_probe import ProbeRun
from hf_gar.evaluation.metrics import accuracy, mean_average_precision
from hf_gar.evaluation.optional import import_optional
from hf_gar.evaluation.partitions import Partition

MAX_ITERATIONS = 1000


def train_logistic_probes(
    embeddings: np.ndarray, targets: np.ndarray, num_classes: int, partitions: Sequence[Partition]
) -> list[ProbeRun]:
    """Fit a logistic regression to each partition's standardised training clips; the validation clips are only scored.

    Args:
        embeddings: (clip, D).
        targets: (clip,) class numbers, or (clip, class), true where a clip has a label: one regression a label.
        num_classes: Of the task.
        partitions: The training, validation and test clips of each seed and fold.
    """
    import_optional("sklearn")
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    runs = []
    for partition in tqdm(partitions, desc="Fitting logistic regressions", unit=" runs"):
        regression = LogisticRegression(max_iter=MAX_ITERATIONS, random_state=partition.seed)
        classifier = make_pipeline(
            StandardScaler(), OneVsRestClassifier(regression) if targets.ndim == 2 else regression
        )
        classifier.fit(embeddings[partition.train], targets[partition.train])

        def scores(clips: np.ndarray, classifier=classifier) -> np.ndarray:
            outputs = classifier.decision_function(embeddings[clips])
            if targets.ndim == 2:
                return outputs
            if outputs.ndim == 1:  # of two classes, scikit-learn gives one score
                outputs = np.stack([-outputs, outputs], axis=1)
            # A class without a clip has no column there.
            return scatter_columns(outputs, classifier.classes_, num_classes)

        metric = mean_average_precision if targets.ndim == 2 else accuracy
        valid_scores = scores(partition.valid)
        valid_score = metric(valid_scores, targets[partition.valid])
        runs.append(ProbeRun(partition, 0.0, 0, 0, valid_score, valid_scores, scores(partition.test)))
    return runs


def scatter_columns(scores: np.ndarray, columns: np.ndarray, num_classes: int) -> np.ndarray:
    """Scores (clip, column) of some classes as (clip, class), the lowest there are for all others."""
    scattered = np.full((len(scores), num_classes), -np.inf)
    scattered[:, columns] = scores
    return scattered

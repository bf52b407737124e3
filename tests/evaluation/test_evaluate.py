from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from hf_gar import HfGarError
from hf_gar.evaluation.evaluate import EmbeddedTask, evaluate_embeddings, parse_learning_rates
from hf_gar.evaluation.linear_probe import ProbeSettings
from hf_gar.evaluation.tasks import SWEEP
from tests.evaluation.synthetic import single_label_task

SETTINGS = ProbeSettings(max_epochs=60)


def test_the_mean_is_over_folds_and_then_seeds():
    result = evaluate_embeddings(single_label_task(folds=4, spread=2), [0.01], settings=SETTINGS)
    assert len(result.runs) == 12
    by_seed = result.runs.groupby("seed")["test"].mean()
    assert result.test.mean == pytest.approx(by_seed.mean())
    assert result.test.low < result.test.mean < result.test.high
    assert 0.5 < result.test.mean < 1
    # Every clip is tested once for each seed.
    assert result.confusion.sum() == 3 * 120
    assert result.per_class == pytest.approx(
        {f"class{index}": row[index] / row.sum() for index, row in enumerate(result.confusion)}
    )


def test_a_sweep_chooses_by_validation():
    task = single_label_task(spread=2)
    result = evaluate_embeddings(task, [1e-7, 0.01], settings=SETTINGS)
    assert result.sweep[0.01] > result.sweep[1e-7]
    assert (result.learning_rate, result.valid) == (0.01, result.sweep[0.01])
    alone = evaluate_embeddings(task, [0.01], settings=SETTINGS)
    np.testing.assert_allclose(result.runs["test"], alone.runs["test"])
    # The labels of the test clips play no part: with others, the choice is the same.
    targets = np.where(task.memberships == "test", (task.targets + 1) % 3, task.targets)
    other = evaluate_embeddings(replace(task, targets=targets), [1e-7, 0.01], settings=SETTINGS)
    assert (other.learning_rate, other.sweep) == (result.learning_rate, result.sweep)
    assert other.test.mean < result.test.mean


def test_several_labels_are_scored_by_mean_average_precision():
    # Three of the labels are dimensions' signs, which a linear layer finds; the last is a coin's.
    generator = np.random.default_rng(0)
    embeddings = generator.normal(size=(2000, 4)).astype(np.float32)
    targets = np.column_stack([embeddings[:, :3] > 0, generator.random(2000) < 0.25])
    memberships = np.array(["train", "train", "valid", "test"])[np.arange(2000) % 4]
    task = EmbeddedTask(embeddings, targets, ("a", "b", "c", "coin"), memberships, False, [str(i) for i in range(2000)])
    result = evaluate_embeddings(task, [0.01], settings=SETTINGS)
    assert (result.metric, result.confusion) == ("mAP", None)
    assert min(result.per_class[name] for name in "abc") > 0.97
    assert result.per_class["coin"] == pytest.approx(0.25, abs=0.1)
    assert result.test.mean == pytest.approx((3 + 0.25) / 4, abs=0.04)


def test_logistic_regression_is_scikit_learns():
    task = single_label_task(spread=2)
    result = evaluate_embeddings(task, [0.01], probe="logistic", seeds=[1])
    train, test = task.memberships == "train", task.memberships == "test"
    scaler = StandardScaler().fit(task.embeddings[train])
    regression = LogisticRegression(max_iter=1000).fit(scaler.transform(task.embeddings[train]), task.targets[train])
    assert result.test.mean == pytest.approx(
        regression.score(scaler.transform(task.embeddings[test]), task.targets[test])
    )
    assert result.learning_rate is None


@pytest.mark.parametrize("probe", ["linear", "logistic"])
def test_two_classes(probe):
    result = evaluate_embeddings(single_label_task(classes=2, spread=0.3), [0.1], probe=probe, settings=SETTINGS)
    assert result.test.mean > 0.95
    assert result.test.high <= 1


def test_logistic_regression_of_several_labels():
    task = single_label_task(clips=200, spread=1)
    targets = np.column_stack([task.targets == 0, task.targets != 2, task.targets == 2])
    result = evaluate_embeddings(replace(task, targets=targets), [0.01], probe="logistic", seeds=[1])
    assert result.metric == "mAP"
    assert 0.8 < result.test.mean <= 1


def test_embeddings_that_are_not_finite_are_named():
    task = single_label_task()
    task.embeddings[7, 3] = np.nan
    task.embeddings[9, 0] = np.inf
    with pytest.raises(HfGarError, match=r"2 of 120 embeddings are not finite \(NaN or infinite\): 7.wav, 9.wav"):
        evaluate_embeddings(task, [0.01])


def test_learning_rates():
    assert parse_learning_rates(None, 0.1) == [0.1]
    assert parse_learning_rates("3e-4", 0.1) == [0.0003]
    assert parse_learning_rates("sweep", 0.1) == list(SWEEP)
    for wrong in ("fast", "-1", "nan", "inf"):
        with pytest.raises(HfGarError, match="`learning_rate` has to be"):
            parse_learning_rates(wrong, 0.1)

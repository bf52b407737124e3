import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score
from sklearn.preprocessing import StandardScaler
from torch import nn

from hf_gar.evaluation import linear_probe
from hf_gar.evaluation.linear_probe import ProbeSettings, standardisation, train_linear_probes
from hf_gar.evaluation.partitions import make_partitions
from tests.evaluation.synthetic import clusters

SETTINGS = ProbeSettings(batch_size=32, max_epochs=30, patience=5)
NAMES = ("a", "b", "c", "d")


def partitions_of(targets, folds=3, seeds=(42, 43)):
    # Folds of unequal size: their epochs have unequal numbers of batches.
    memberships = np.array([str(index % folds) if index % 5 else "0" for index in range(len(targets))])
    return make_partitions(targets, NAMES, memberships, True, seeds)


def several_labels(clips, dimension=12, seed=0):
    generator = np.random.default_rng(seed)
    embeddings = generator.normal(size=(clips, dimension)).astype(np.float32)
    weights = generator.normal(size=(dimension, len(NAMES)))
    return embeddings, embeddings @ weights + generator.normal(size=(clips, len(NAMES))) > 0.5


def train_plainly(embeddings, targets, partition, learning_rate, settings):
    """The protocol with nothing but nn.Linear, torch.optim.Adam and scikit-learn: epochs, best epoch, test outputs."""
    scaler = StandardScaler().fit(embeddings[partition.train].astype(np.float64))
    x = torch.tensor(scaler.transform(embeddings), dtype=torch.float32)
    y = torch.tensor(targets).float() if targets.ndim == 2 else torch.tensor(targets)
    loss_function = nn.BCEWithLogitsLoss() if targets.ndim == 2 else nn.CrossEntropyLoss()
    torch.manual_seed(partition.seed)
    linear = nn.Linear(x.shape[1], len(NAMES))
    optimizer = torch.optim.Adam(linear.parameters(), lr=learning_rate, weight_decay=settings.weight_decay)
    best, best_epoch, best_outputs = -1.0, 0, None
    for epoch in range(1, settings.max_epochs + 1):
        train = torch.tensor(partition.train)[torch.randperm(len(partition.train))]
        for batch in train.split(settings.batch_size):
            optimizer.zero_grad()
            loss_function(linear(x[batch]), y[batch]).backward()
            optimizer.step()
        with torch.no_grad():
            outputs = linear(x).numpy()
        valid, truth = outputs[partition.valid], targets[partition.valid]
        score = average_precision_score(truth, valid) if targets.ndim == 2 else (valid.argmax(1) == truth).mean()
        if score > best:
            best, best_epoch, best_outputs = score, epoch, outputs[partition.test]
        elif epoch - best_epoch >= settings.patience:
            break
    return epoch, best_epoch, best, best_outputs


@pytest.mark.parametrize("kind", ["one label", "several labels"])
def test_batched_training_is_plain_training_one_by_one(kind):
    embeddings, targets = several_labels(150) if kind == "several labels" else clusters(150, 12, 4, spread=2.5)
    partitions = partitions_of(targets)
    rates = [0.001, 0.01]
    runs = train_linear_probes(embeddings, targets, 4, partitions, rates, SETTINGS)
    assert [(run.partition, run.learning_rate) for run in runs] == [(p, rate) for p in partitions for rate in rates]
    assert len({run.epochs for run in runs}) > 2  # they stop at different times
    for run in runs:
        epochs, best_epoch, best, outputs = train_plainly(
            embeddings, targets, run.partition, run.learning_rate, SETTINGS
        )
        assert (run.epochs, run.best_epoch) == (epochs, best_epoch)
        assert run.valid_score == pytest.approx(best)
        np.testing.assert_allclose(run.test_scores, outputs, atol=2e-4)
        np.testing.assert_array_equal(run.test_scores.argmax(1), outputs.argmax(1))


def test_a_run_comes_out_the_same_alone_and_in_any_chunk(monkeypatch):
    embeddings, targets = clusters(150, 12, 4, spread=2.5)
    partitions = partitions_of(targets)
    together = train_linear_probes(embeddings, targets, 4, partitions, [0.003], SETTINGS)
    monkeypatch.setattr(linear_probe, "CHUNK_BYTES", 2 * 4 * SETTINGS.batch_size * 12)
    in_twos = train_linear_probes(embeddings, targets, 4, partitions, [0.003], SETTINGS)
    for partition, run, other in zip(partitions, together, in_twos, strict=True):
        (alone,) = train_linear_probes(embeddings, targets, 4, [partition], [0.003], SETTINGS)
        for same in (run, other):
            assert same.epochs == alone.epochs
            np.testing.assert_allclose(same.test_scores, alone.test_scores, atol=1e-5)


def test_standardisation_is_scikit_learns_and_leaves_constant_dimensions_at_zero():
    embeddings, _ = clusters(60, 6, 3)
    embeddings[:, 2] = 0.1  # constant
    embeddings[:50, 4] = -7e3  # constant in training only
    train = np.arange(50)
    scale, shift = standardisation(torch.from_numpy(embeddings), train)
    found = torch.from_numpy(embeddings) * scale + shift
    expected = StandardScaler().fit(embeddings[train].astype(np.float64)).transform(embeddings)
    others = [0, 1, 3, 5]
    np.testing.assert_allclose(found[:, others], expected[:, others], atol=1e-5)
    assert (found[:, [2, 4]] == 0).all()


def test_a_constant_dimension_does_no_harm():
    embeddings, targets = clusters(150, 12, 4)
    with_constant = np.concatenate([embeddings, np.full((150, 1), 3, np.float32)], axis=1)
    run, *_ = train_linear_probes(with_constant, targets, 4, partitions_of(targets), [0.01], SETTINGS)
    assert np.isfinite(run.test_scores).all()
    assert run.valid_score > 0.9

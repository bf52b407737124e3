"""Ranking layers without labels: the measures on embeddings of which they are known, and the command."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from hf_gar import AudioEmbedder, HfGarError, load_audio, read_job
from hf_gar.embedding.crop import FIRST_HALF, SECOND_HALF, Halves
from hf_gar.embedding.sources.source import open_source
from hf_gar.evaluation.label_free import effective_rank, embed_halves, inner_products, measure, rank_layers
from tests.conftest import relative_error, save_tiny


@pytest.fixture(scope="module")
def cnn14(tmp_path_factory):
    return save_tiny("cnn14-fusion", tmp_path_factory.mktemp("model") / "cnn14")


def test_the_effective_rank_of_known_spectra():
    orthogonal = np.linalg.qr(np.random.default_rng(0).normal(size=(20, 20)))[0]
    assert effective_rank(orthogonal @ orthogonal.T) == pytest.approx(20)
    assert effective_rank(9 * orthogonal[:, :5] @ orthogonal[:, :5].T) == pytest.approx(5, rel=1e-5)
    assert effective_rank(np.ones((20, 20))) == pytest.approx(1, rel=1e-5)
    # Singular values of 3 and 1: the entropy of (3/4, 1/4).
    expected = np.exp(-0.75 * np.log(0.75) - 0.25 * np.log(0.25))
    assert effective_rank(np.diag([9.0, 1.0])) == pytest.approx(expected)


def test_isotropy_and_agreement_of_known_similarities():
    alike, apart = np.ones((30, 30)), np.eye(30)
    assert measure(np.stack([alike, apart, alike]))["isotropy"] == pytest.approx(0)
    assert measure(np.stack([apart, apart, apart]))["isotropy"] == pytest.approx(4)  # exp(-2 * 2) for right angles
    cross = 0.1 * np.random.default_rng(0).normal(size=(30, 30))
    np.fill_diagonal(cross, 0.5)
    others = cross[~np.eye(30, dtype=bool)]
    assert measure(np.stack([apart, cross, apart]))["agreement"] == pytest.approx((0.5 - others.mean()) / others.std())


def test_inner_products_add_up_over_layers():
    halves = np.random.default_rng(0).normal(3, 2, size=(2, 40, 9)).astype(np.float32)
    whole = measure(inner_products(halves))
    parts = measure(inner_products(halves[:, :, :4]) + inner_products(halves[:, :, 4:]))
    assert parts == pytest.approx(whole)


def test_a_layer_that_knows_its_recordings_is_ranked_before_noise():
    """Layer 1 has 20 numbers of each recording, layer 2 the same two in all dimensions, layer 3 noise of each half."""
    generator = np.random.default_rng(0)
    recordings = generator.normal(size=(150, 20))
    first = np.stack([recordings + 0.5 * generator.normal(size=(150, 20)) for _ in range(2)])
    second = np.stack([(recordings[:, :2] @ generator.normal(size=(2, 20))) for _ in range(2)])
    third = generator.normal(size=(2, 150, 20))
    halves = np.concatenate([first, second, third], axis=2)
    slices = {1: slice(0, 20), 2: slice(20, 40), 3: slice(40, 60)}
    ranking = rank_layers(halves, slices)
    assert ranking.num_recordings == 150
    table = ranking.candidates.set_index("layers")
    assert len(table) == 6
    assert table["mean_rank"].is_monotonic_increasing
    assert table["effective_rank"][(2,)] == pytest.approx(2, rel=0.1)
    assert table["effective_rank"][(1,)] > 15
    assert table["agreement"][(1,)] > 2
    assert abs(table["agreement"][(3,)]) < 5 / np.sqrt(150)  # five standard deviations of a mean of 150
    assert table["mean_rank"][(1,)] < table["mean_rank"][(2,)]
    assert table["dimension"][(1, 3)] == 40
    assert 1 in ranking.best


def test_constant_and_dead_layers_are_ranked_last():
    halves = np.random.default_rng(0).normal(size=(2, 50, 8))
    halves[:, :, 4:] = 7
    ranking = rank_layers(halves, {1: slice(0, 4), 2: slice(4, 8)})
    assert ranking.candidates["layers"].iloc[-1] == (2,)
    with pytest.raises(HfGarError, match="2 recordings are too few to rank layers by: take 100 or more"):
        rank_layers(halves[:, :2], {1: slice(0, 8)})


def test_halves_of_a_waveform():
    waveform = np.arange(101)
    halves = Halves(seconds=3)
    assert np.array_equal(halves.apply(waveform, 10, FIRST_HALF, "a"), np.arange(30))
    assert np.array_equal(halves.apply(waveform, 10, SECOND_HALF, "a"), np.arange(50, 80))
    assert np.array_equal(Halves().apply(waveform, 16000, SECOND_HALF, "a"), np.arange(50, 101))


def test_both_halves_are_embedded(tones, cnn14, tmp_path):
    embedder = AudioEmbedder(cnn14, crop=Halves(), dtype="float32")
    halves = embed_halves(open_source([tones]), embedder, tmp_path / "job", max_recordings=7)
    assert halves.shape == (2, 7, embedder.config.embedding_size)
    names = read_job(tmp_path / "job").rows["file_name"]
    alone = AudioEmbedder(cnn14, dtype="float32")
    for number in range(7):
        waveform = load_audio(tones / names[number], 16000)
        for half, piece in zip(halves, np.split(waveform, 2), strict=True):
            (expected,) = alone.embed([piece])
            assert relative_error(half[number], expected.clip) < 1e-5


def test_from_the_command_line(tones, cnn14, tmp_path, run_here):
    command = ["probe", "--without-labels", "--data", tones, "--model", cnn14, "--output", tmp_path / "out"]
    code, printed, _ = run_here(*command)
    assert code == 0
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert (results["recordings"], results["ranked_layers"]) == (36, [1, 2, 3, 4, 5, 6])
    candidates = pd.read_parquet(tmp_path / "out" / "candidates.parquet")
    assert len(candidates) == len(results["candidates"]) == 21
    first = " + ".join(map(str, results["best_layers"]))
    assert f"ranked first: layers {first}" in printed
    assert "ranked by 36 recordings without labels, fewer than the 100 that are advised" in printed
    part = next((tmp_path / "out" / "embeddings").glob("part-*"))
    before = part.stat().st_mtime_ns
    assert run_here(*command)[0] == 0
    assert part.stat().st_mtime_ns == before
    code, _, errors = run_here(*command, "--max-recordings", 20)
    assert code == 1
    assert "holds another job" in errors


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--without-labels", "--fold-column", "fold"], "--fold-column needs labels"),
        (["--without-labels", "--lr", "sweep"], "--lr needs labels"),
        (["--max-recordings", "5"], "--max-recordings goes with --without-labels"),
    ],
)
def test_options_of_labels_are_refused(options, message, tones, cnn14, tmp_path, run_here):
    code, _, errors = run_here("probe", "--data", tones, "--model", cnn14, "--output", tmp_path / "out", *options)
    assert code == 1
    assert message in errors


def test_recordings_that_cannot_be_read(tones, cnn14, tmp_path, run_here):
    shutil.copytree(tones, tmp_path / "tones")
    (tmp_path / "tones" / "5.wav").write_bytes(b"")
    command = ["probe", "--without-labels", "--model", cnn14, "--data", tmp_path / "tones"]
    command += ["--output", tmp_path / "out"]
    code, _, errors = run_here(*command)
    assert code == 1
    assert "2 recordings could not be embedded" in errors
    code, _, errors = run_here(*command, "--allow-failures")
    assert code == 0, errors
    assert json.loads((tmp_path / "out" / "results.json").read_text())["recordings"] == 35

from dataclasses import replace

import numpy as np
import pytest

from hf_gar import HfGarError, VGGishFusionConfig
from hf_gar.embedding.layer_slices import layer_slices
from hf_gar.evaluation.layer_search import choose_dimensions, probed_layers, search_layers
from tests.evaluation.synthetic import single_label_task

# Layer 2 tells class 0 from the others and layer 4 class 1, so that the pair tells all; layers 1 and 3 are noise.
SLICES = {1: slice(0, 3), 2: slice(3, 5), 3: slice(5, 8), 4: slice(8, 10)}


def layered_task():
    task = single_label_task(clips=240)
    generator = np.random.default_rng(1)
    embeddings = generator.normal(size=(240, 10)).astype(np.float32)
    embeddings[:, 3] += 20 * (task.targets == 0)
    embeddings[:, 8] += 20 * (task.targets == 1)
    return replace(task, embeddings=embeddings)


def test_the_search_finds_what_was_put_in():
    search = search_layers(layered_task(), SLICES, [0.01], seeds=(1, 2))
    assert (search.best, search.dimension) == ((2, 4), 4)
    assert search.evaluation.test.mean > 0.95
    assert len(search.evaluation.runs) == 2
    candidates = search.candidates
    assert list(candidates.loc[candidates["stage"] == "layer", "layers"]) == [(1,), (2,), (3,), (4,)]
    assert (candidates["stage"] == "pair").sum() == 6
    # From the best pair it tried each other layer and stopped, as neither was better.
    assert set(candidates.loc[candidates["stage"] == "greedy", "layers"]) == {(1, 2, 4), (2, 3, 4)}
    best = candidates.loc[candidates["valid"].idxmax()]
    assert best["valid"] == candidates.set_index("layers")["valid"][(2, 4)]


def test_without_all_pairs_the_search_grows_from_the_best_layer():
    search = search_layers(layered_task(), SLICES, [0.01], pairs="none", seeds=(1,))
    assert search.best == (2, 4)
    assert (search.candidates["stage"] == "pair").sum() == 3


def test_the_choice_does_not_see_the_test_clips():
    task = layered_task()
    targets = np.where(task.memberships == "test", (task.targets + 1) % 3, task.targets)
    search = search_layers(replace(task, targets=targets), SLICES, [0.01], seeds=(1,))
    assert search.best == (2, 4)
    assert search.evaluation.test.mean < 0.2


def test_slices_follow_the_network():
    config = VGGishFusionConfig(fusion_layers=[21, 9, 14], depth=21)
    assert layer_slices(config) == {9: slice(0, 4096), 14: slice(4096, 8192), 21: slice(8192, 8320)}
    assert probed_layers(VGGishFusionConfig()) == (1, 4, 7, 9, 12, 14)


def test_features_for_other_layers_than_asked():
    task = layered_task()
    with pytest.raises(HfGarError, match=r"are of the layers 1, 2, 3, 4, 10 dimensions .*asked for 2, 7"):
        choose_dimensions(task, SLICES, (2, 7))
    with pytest.raises(HfGarError, match=r"7 dimensions \(10 were expected\)"):
        choose_dimensions(replace(task, embeddings=task.embeddings[:, :7]), SLICES, (2,))

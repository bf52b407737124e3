import pytest

from hf_gar import Cnn14FusionConfig, HfGarError, VGGishFusionConfig
from hf_gar.evaluation.tasks import TASKS, Task, find_task


def test_the_papers_learning_rates_go_by_model_and_fusion():
    assert TASKS["esc50"].learning_rate(VGGishFusionConfig()) == 0.0003
    assert TASKS["esc50"].learning_rate(VGGishFusionConfig(fusion_layers=None)) == 0.003
    assert TASKS["vc1"].learning_rate(VGGishFusionConfig()) == 0.0005
    assert TASKS["nsynth"].learning_rate(Cnn14FusionConfig()) == 0.00001
    assert TASKS["surge"].learning_rate(Cnn14FusionConfig()) == 0.00003
    assert TASKS["surge"].learning_rate(Cnn14FusionConfig(fusion_layers=None)) == 0.0003
    assert Task("esc50", "own").learning_rate(VGGishFusionConfig(fusion_layers=None)) == 0.0003  # the name alone


def test_the_counts_are_the_papers_or_the_downloads():
    TASKS["cremad"].require_counts(7_438, 6, None)
    TASKS["cremad"].require_counts(7_442, 6, None)
    with pytest.raises(HfGarError, match=r"7438 clips were expected and 7441 found\. Complete the download"):
        TASKS["cremad"].require_counts(7_441, 6, None)
    with pytest.raises(HfGarError, match="5 folds were expected and none found"):
        TASKS["esc50"].require_counts(2_000, 50, None)
    Task("own", "own").require_counts(3, 2, 7)


def test_unknown_names_and_values_are_told():
    with pytest.raises(HfGarError, match="'esc10' is not a task; there are esc50, us8k"):
        find_task("esc10")
    with pytest.raises(ValueError, match="metric has to be one of accuracy, mAP"):
        Task("own", "own", metric="f1")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="seconds has to be above 0"):
        Task("own", "own", seconds=0)

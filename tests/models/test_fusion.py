import pytest
import torch

from hf_gar.models.fusion import length_mask, pool_frames, resolve_fusion_layers, tap_to_frames

VALID = (1, 2, 3, 4, 5, 6)


def test_layers_come_in_the_order_of_the_network():
    assert resolve_fusion_layers([6, 3], VALID, depth=6) == (3, 6)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([7], r"unknown layers \[7\]; valid layers are 1, 2, 3, 4, 5, 6"),
        ([-1, 3], r"unknown layers \[-1\]"),
        (["3"], r"unknown layers \['3'\]"),
        ([True], r"unknown layers \[True\]"),
        ([3, 3], "repeats a layer"),
        ([], "is empty: name a layer"),
        ("3", "has to be a list of layer numbers or None"),
        (3, "has to be a list of layer numbers or None"),
        ([2, 5], r"layers \[5\].*only up to depth=4.*--all-layers"),
    ],
)
def test_a_wrong_choice_is_named(layers, message):
    with pytest.raises(ValueError, match=message):
        resolve_fusion_layers(layers, VALID, depth=4)


def test_a_tap_is_pooled_over_time_and_flattened_channel_major():
    tap = torch.randn(2, 3, 9, 4)
    frames = tap_to_frames(tap, 4)
    assert frames.shape == (2, 2, 12)
    for channel in range(3):
        for frequency in range(4):
            expected = tap[1, channel, 4:8, frequency].max()
            assert frames[1, 1, channel * 4 + frequency] == expected


def test_pooling_sees_only_a_clips_own_frames():
    frames = torch.randn(2, 5, 3)
    mask = length_mask(torch.tensor([2, 5]), 5)
    pooled = pool_frames(frames, mask)
    torch.testing.assert_close(pooled[0], frames[0, :2].amax(0) + frames[0, :2].mean(0))
    torch.testing.assert_close(pooled[1], frames[1].amax(0) + frames[1].mean(0))


def test_pooling_many_large_frames_does_not_overflow():
    frames = torch.full((1, 400, 2), 200, dtype=torch.float16)
    assert pool_frames(frames, torch.ones(1, 400, dtype=torch.bool)).tolist() == [[400, 400]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_pooling_in_half_precision(dtype):
    frames = torch.randn(1, 50, 3)
    pooled = pool_frames(frames.to(dtype), torch.ones(1, 50, dtype=torch.bool))
    assert pooled.dtype == dtype
    torch.testing.assert_close(pooled.float(), frames.amax(1) + frames.mean(1), atol=0.03, rtol=0.02)

import pytest
import torch

from hf_gar.models.fusion import DurationPooling, FramePooling, length_mask, resolve_fusion_layers, tap_to_frames

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


def pool(frames: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The embeddings of clips of one chunk each."""
    pooling = FramePooling()
    return pooling.merge(pooling.summarize(frames, None, mask)[:, None], mask.sum(1, keepdim=True))


def test_pooling_sees_only_a_clips_own_frames():
    frames = torch.randn(2, 5, 3)
    pooled = pool(frames, length_mask(torch.tensor([2, 5]), 5))
    torch.testing.assert_close(pooled[0], frames[0, :2].amax(0) + frames[0, :2].mean(0))
    torch.testing.assert_close(pooled[1], frames[1].amax(0) + frames[1].mean(0))


def test_pooled_chunks_are_the_pooled_clip():
    frames, pooling = torch.randn(1, 9, 3), FramePooling(torch.nn.Linear(3, 3))
    counts, mask = torch.tensor([4, 5]), torch.ones(1, 5, dtype=torch.bool)
    chunks = [frames[:, :4], frames[:, 4:]]
    summaries = torch.cat([pooling.summarize(piece, None, mask[:, : piece.shape[1]]) for piece in chunks])
    expected = pooling.head(frames[0].amax(0) + frames[0].mean(0)).relu()
    torch.testing.assert_close(pooling.merge(summaries, counts), expected)


def test_embeddings_of_chunks_count_by_their_durations():
    clips, pooling = torch.tensor([[1.0, 2.0], [4.0, 8.0]]), DurationPooling()
    frames = torch.zeros(2, 3, 2)
    summaries = pooling.summarize(frames, clips, torch.ones(2, 3, dtype=torch.bool))
    assert pooling.merge(summaries, torch.tensor([2, 1])).tolist() == [2, 4]
    assert pooling.merge(summaries[:1], torch.tensor([7])).tolist() == [1, 2]


def test_pooling_many_large_frames_does_not_overflow():
    frames = torch.full((1, 400, 2), 200, dtype=torch.float16)
    assert pool(frames, torch.ones(1, 400, dtype=torch.bool)).tolist() == [[400, 400]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_pooling_half_precision(dtype):
    frames = torch.randn(1, 50, 3)
    pooled = pool(frames.to(dtype), torch.ones(1, 50, dtype=torch.bool))
    torch.testing.assert_close(pooled, frames.amax(1) + frames.mean(1), atol=0.03, rtol=0.02)

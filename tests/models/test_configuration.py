import json

import pytest

from hf_gar import Cnn14FusionConfig


def test_defaults_are_the_papers():
    config = Cnn14FusionConfig()
    assert config.fusion_layers == [3, 6]
    assert (config.depth, config.embedding_size, config.frame_hop_s) == (6, 6144, 0.32)
    assert config.layer_sizes == {1: 2048, 2: 2048, 3: 2048, 4: 2048, 5: 2048, 6: 4096}


def test_frame_hop_of_the_32_khz_network():
    assert Cnn14FusionConfig(sampling_rate=32000, hop_length=320).frame_hop_s == 0.32


def test_unfused():
    config = Cnn14FusionConfig(fusion_layers=None)
    assert (config.depth, config.embedding_size, config.fused_layers) == (7, 2048, ())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"fusion_layers": [3, 9]}, "unknown layers"),
        ({"fusion_layers": [3, 6], "depth": 4}, "depth=4"),
        ({"fusion_layers": None, "depth": 6}, "unfused embedding, which needs the whole network"),
        ({"depth": 8}, "depth has to be from 1 to 7"),
        ({"depth": "6"}, "depth has to be"),
        ({"sampling_rate": "16000"}, "sampling_rate has to be an integer"),
        ({"num_mel_bins": 0}, "num_mel_bins has to be an integer above 0"),
        ({"num_mel_bins": 16}, "num_mel_bins has to be at least 32"),
        ({"channels": [4, 8]}, "6 blocks"),
        ({"channels": [4, 8, 8, 8, 8, 0]}, r"channels\[5\]"),
        ({"dropout": 1.5}, "dropout is a probability"),
    ],
)
def test_a_wrong_field_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        Cnn14FusionConfig(**arguments)


def test_fields_replaced_on_loading(model, repository):
    config_class = type(model.config)
    layer = model.config.valid_layers[0]
    config = config_class.from_pretrained(repository, fusion_layers=[layer])
    assert config.fused_layers == (layer,)
    assert config.embedding_size == config.layer_sizes[layer]
    assert config.depth == model.config.depth


def test_derived_sizes_are_not_stored(repository):
    stored = json.loads((repository / "config.json").read_text())
    assert not {"embedding_size", "frame_hop_s", "layer_sizes", "fused_layers"} & stored.keys()

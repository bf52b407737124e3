import json

import pytest

from hf_gar import ASTFusionConfig, Cnn14FusionConfig, VGGishFusionConfig


def test_defaults_are_the_papers():
    config = Cnn14FusionConfig()
    assert config.fusion_layers == [3, 6]
    assert (config.depth, config.embedding_size, config.frame_hop_s) == (6, 6144, 0.32)
    assert config.layer_sizes == {1: 2048, 2: 2048, 3: 2048, 4: 2048, 5: 2048, 6: 4096, 7: 2048}


def test_frame_hop_of_the_32_khz_network():
    assert Cnn14FusionConfig(sampling_rate=32000, hop_length=320).frame_hop_s == 0.32


def test_unfused():
    config = Cnn14FusionConfig(fusion_layers=None)
    assert (config.depth, config.embedding_size, config.fused_layers) == (7, 2048, (7,))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"fusion_layers": [3, 9]}, "unknown layers"),
        ({"fusion_layers": [3, 6], "depth": 4}, "depth=4"),
        ({"fusion_layers": None, "depth": 6}, "unfused embedding, which needs the whole network"),
        ({"depth": 8}, "depth has to be one of the layers 1, 2, 3, 4, 5, 6, 7, not 8"),
        ({"depth": "6"}, "depth has to be"),
        ({"sampling_rate": "16000"}, "sampling_rate has to be an integer"),
        ({"num_mel_bins": 0}, "num_mel_bins has to be an integer above 0"),
        ({"num_mel_bins": 16}, "num_mel_bins has to be at least 32"),
        ({"channels": [4, 8]}, "channels has to be 6 sizes"),
        ({"channels": [4, 8, 8, 8, 8, 0]}, r"channels\[5\]"),
        ({"dropout": 1.5}, "dropout is a probability"),
    ],
)
def test_a_wrong_field_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        Cnn14FusionConfig(**arguments)


def test_vggish():
    config = VGGishFusionConfig()
    assert (config.fusion_layers, config.depth) == ([9, 14], 14)
    assert (config.embedding_size, config.frame_hop_s) == (8192, 0.16)
    assert config.layer_sizes == {**dict.fromkeys((1, 4, 7, 9, 12, 14, 17, 19), 4096), 21: 128}
    unfused = VGGishFusionConfig(fusion_layers=None)
    assert (unfused.depth, unfused.embedding_size) == (21, 128)


def test_ast():
    config = ASTFusionConfig()
    assert (config.fusion_layers, config.depth) == ([4, 11], 11)
    assert (config.embedding_size, config.frame_hop_s, config.patch_grid) == (1536, 0.1, (12, 101))
    assert ASTFusionConfig(fusion_layers=None).embedding_size == 768


@pytest.mark.parametrize(
    ("config_class", "arguments", "message"),
    [
        (
            VGGishFusionConfig,
            {"fusion_layers": [3, 6]},
            r"unknown layers \[3, 6\]; valid layers are 1, 4, 7, 9, 12, 14",
        ),
        (VGGishFusionConfig, {"depth": 10, "fusion_layers": [9]}, "depth has to be one of the layers"),
        (VGGishFusionConfig, {"hidden_sizes": [4, 4]}, "hidden_sizes has to be 3 sizes"),
        (ASTFusionConfig, {"fusion_layers": [3, 12]}, r"unknown layers \[12\]; valid layers are 0, 1"),
        (ASTFusionConfig, {"max_length": 15}, "max_length=15 is below one patch: AST takes at least 16"),
        (ASTFusionConfig, {"max_length": "1024"}, "max_length='1024'"),
        (ASTFusionConfig, {"num_attention_heads": 7}, "has to be a multiple of num_attention_heads=7"),
    ],
)
def test_a_wrong_field_of_the_others_is_named(config_class, arguments, message):
    with pytest.raises(ValueError, match=message):
        config_class(**arguments)


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

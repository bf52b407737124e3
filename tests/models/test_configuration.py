import json
import math

import pytest

from hf_gar import ASTFusionConfig, ASTFusionModel, Cnn14FusionConfig, VGGishFusionConfig
from tests.conftest import build_tiny


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
        ({"num_mel_bins": 16}, "num_mel_bins has to be an integer from 32 to 512, not 16"),
        ({"num_mel_bins": True}, "num_mel_bins has to be an integer from 32 to 512, not True"),
        ({"channels": [4, 8]}, r"channels has to be a list of 6 sizes, not \[4, 8\]"),
        ({"channels": [4, 8, 8, 8, 8, 0]}, r"channels\[5\] has to be an integer"),
        ({"channels": [4, 8, 8, 8, 8, 10**9]}, r"channels\[5\] has to be an integer from 1 to 8192, not 1000000000"),
        ({"dropout": 1.5}, "dropout has to be a number from 0 to 1, not 1.5"),
        ({"dropout": math.nan}, "dropout has to be a number from 0 to 1, not nan"),
        ({"dropout": False}, "dropout has to be a number from 0 to 1, not False"),
        ({"hop_length": 0}, "hop_length has to be an integer from 1 to"),
        ({"sampling_rate": 10**9}, "sampling_rate has to be an integer from 1000 to"),
        ({"dtype": "float99"}, "dtype has to be float32, bfloat16 or float16, not 'float99'"),
        ({"torch_dtype": "int8"}, "torch_dtype has to be float32"),
        ({"id2label": 5}, "id2label has to be an object, not 5"),
        ({"num_labels": 10**9}, "num_labels has to be an integer from 1 to"),
        ({"mel_frames_per_frame": 7}, "mel_frames_per_frame is not a field of a Cnn14FusionConfig"),
        ({"valid_layers": [1]}, "valid_layers is not a field of a Cnn14FusionConfig"),
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
        (VGGishFusionConfig, {"hidden_sizes": [4, 4]}, "hidden_sizes has to be a list of 3 sizes"),
        (ASTFusionConfig, {"fusion_layers": [3, 12]}, r"unknown layers \[12\]; valid layers are 0, 1"),
        (VGGishFusionConfig, {"hidden_sizes": [10**7, 10**6, 8]}, r"hidden_sizes\[0\] has to be an integer from 1 to"),
        (ASTFusionConfig, {"max_length": 15}, "max_length has to be an integer from 16 to 163840, not 15"),
        (ASTFusionConfig, {"max_length": "1024"}, "max_length has to be an integer .*, not '1024'"),
        (ASTFusionConfig, {"max_length": 10**8}, "max_length has to be an integer .*, not 100000000"),
        (ASTFusionConfig, {"max_length": 100_000}, "max_length=100000 makes 119988 patches .*: choose 13656 or less"),
        (ASTFusionConfig, {"pretrained_max_length": 100_000}, "pretrained_max_length=100000 makes 119988 patches"),
        (ASTFusionConfig, {"num_hidden_layers": 10**7}, "num_hidden_layers has to be an integer from 1 to 256"),
        (ASTFusionConfig, {"hidden_size": 10**7}, "hidden_size has to be an integer from 1 to"),
        (ASTFusionConfig, {"layer_norm_eps": -1.0}, "layer_norm_eps has to be a number from 1e-12 to 1, not -1.0"),
        (ASTFusionConfig, {"initializer_range": "a"}, "initializer_range has to be a number from 0 to 1, not 'a'"),
        (ASTFusionConfig, {"num_attention_heads": 7}, "has to be a multiple of num_attention_heads=7"),
    ],
)
def test_a_wrong_field_of_the_others_is_named(config_class, arguments, message):
    with pytest.raises(ValueError, match=message):
        config_class(**arguments)


def test_an_error_about_a_long_list_is_short():
    with pytest.raises(ValueError, match="repeats a layer") as raised:
        Cnn14FusionConfig(fusion_layers=[3] * 1_000_000)
    assert len(str(raised.value)) < 300


def test_the_longest_input_of_ast_is_what_the_error_says():
    assert ASTFusionConfig(max_length=13656).patch_grid == (12, 1365)
    with pytest.raises(ValueError, match="max_length=13666 makes 16392 patches"):
        ASTFusionConfig(max_length=13666)


def test_a_field_is_checked_whenever_it_is_set(repository, model):
    config = type(model.config)()
    with pytest.raises(ValueError, match="hop_length has to be an integer"):
        config.hop_length = -1
    field = "sampling_rate" if config.model_type == "backbone-fusion" else "num_mel_bins"
    with pytest.raises(ValueError, match=f"{field} has to be an integer"):
        type(model.config).from_pretrained(repository, **{field: 10**7})


def test_fields_that_depend_on_each_other_are_checked_before_a_model_is_built():
    config = build_tiny("ast-fusion").config
    config.num_attention_heads = 7
    with pytest.raises(ValueError, match="hidden_size=24 has to be a multiple of num_attention_heads=7"):
        ASTFusionModel(config)


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

"""The conventions of transformers' models: heads, offloading, attentions, outputs, the layout of weights."""

import math

import pytest
import torch
import transformers
from accelerate.hooks import AlignDevicesHook, add_hook_to_module
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoModel

from hf_gar.models.modeling_ast_fusion import ASTFusionPreTrainedModel
from hf_gar.models.modeling_backbone_fusion import BackboneFusionPreTrainedModel
from hf_gar.models.modeling_fusion import FusionModel, FusionPreTrainedModel
from tests.conftest import build_tiny, relative_error, tone


@pytest.fixture
def inputs(extractor):
    return extractor([tone(3.3), tone(2, seed=1)], sampling_rate=16000, return_tensors="pt")


@pytest.fixture
def classifier_class(model) -> type[FusionPreTrainedModel]:
    """A model with a head, as a user or a later model would write it."""

    bases = (ASTFusionPreTrainedModel, BackboneFusionPreTrainedModel)
    base = next((base for base in bases if isinstance(model, base)), FusionPreTrainedModel)

    class Classifier(base):
        config_class = type(model.config)

        def __init__(self, config):
            super().__init__(config)
            self.backbone = type(model)(config)
            self.classifier = nn.Linear(config.embedding_size, 3)
            self.post_init()

        def forward(self, **inputs):
            return self.classifier(self.backbone(**inputs).pooler_output)

    return Classifier


def test_a_head_on_a_repository_without_one_is_new(classifier_class, model, repository, inputs):
    loaded, info = classifier_class.from_pretrained(repository, output_loading_info=True)
    assert set(info["missing_keys"]) == {"classifier.weight", "classifier.bias"}
    assert not info["unexpected_keys"]
    assert loaded.classifier.weight.std() > 0
    expected = loaded.classifier(model(**inputs).pooler_output)
    assert relative_error(loaded(**inputs).detach(), expected.detach()) < 1e-5


def test_a_head_is_saved_and_loaded_with_its_backbone_or_without(classifier_class, model, repository, tmp_path):
    with_head = classifier_class.from_pretrained(repository)
    with_head.save_pretrained(tmp_path)
    again = classifier_class.from_pretrained(tmp_path)
    assert torch.equal(again.classifier.weight, with_head.classifier.weight)
    backbone = type(model).from_pretrained(tmp_path)
    for name, weight in model.state_dict().items():
        assert torch.equal(backbone.state_dict()[name], weight)
        assert torch.equal(again.backbone.state_dict()[name], weight)


@pytest.mark.parametrize("with_head", [True, False])
def test_a_backbone_under_a_head_has_to_be_complete(classifier_class, model, repository, tmp_path, with_head):
    loaded = classifier_class.from_pretrained(repository)
    (loaded if with_head else loaded.backbone).save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    name = next(name for name, _ in model.named_parameters())
    del weights[f"backbone.{name}" if with_head else name]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    for loader in (classifier_class, type(model)):
        with pytest.raises(ValueError, match=rf"not those of a {type(model).__name__}.*1 missing \({name}\)"):
            loader.from_pretrained(tmp_path)


def test_a_head_on_part_of_a_repository(classifier_class, model_type, model, repository):
    layer = model.config.valid_layers[0]
    loaded, info = classifier_class.from_pretrained(
        repository, fusion_layers=[layer], depth=layer, output_loading_info=True
    )
    assert not info["unexpected_keys"]
    expected = build_tiny(model_type, fusion_layers=[layer], depth=layer).state_dict()
    assert loaded.backbone.state_dict().keys() == expected.keys()


def test_a_head_runs_its_backbone_as_it_runs_alone(classifier_class, model):
    head = classifier_class(type(model.config).from_dict(model.config.to_dict()))
    alone = type(model)(type(model.config).from_dict(model.config.to_dict()))
    assert head.backbone.config._attn_implementation == alone.config._attn_implementation
    assert head.supports_gradient_checkpointing == model.supports_gradient_checkpointing


def test_gradients_of_the_hidden_states(model, inputs):
    outputs = model(**inputs, output_hidden_states=True)
    for hidden_state in outputs.hidden_states:
        hidden_state.retain_grad()
    outputs.last_hidden_state.square().sum().backward()
    joined = torch.cat([hidden_state.grad for hidden_state in outputs.hidden_states], dim=2)
    torch.testing.assert_close(joined, 2 * outputs.last_hidden_state.detach())
    model.zero_grad()


@pytest.mark.parametrize("share", [2, 3, 10])
def test_weights_on_disk(model, repository, inputs, tmp_path, share):
    """What does not fit into the memory that is given is loaded when it is needed."""
    memory = {"cpu": model.num_parameters() * 4 // share}
    try:
        loaded = type(model).from_pretrained(
            repository, device_map="auto", max_memory=memory, offload_folder=tmp_path / "disk"
        )
    except (SafetensorError, ValueError) as error:
        is_refused = isinstance(error, SafetensorError) or "No weight of the model fits into the memory" in str(error)
        if is_refused and transformers.__version__.startswith(("4.", "5.0.")):
            pytest.skip("this version of transformers does not load a model of which nothing fits into the memory")
        raise
    assert "disk" in loaded.hf_device_map.values()
    assert not any(place.startswith("embeddings.") for place in loaded.hf_device_map)
    with torch.no_grad():
        found, expected = loaded(**inputs), model(**inputs)
    assert relative_error(found.pooler_output, expected.pooler_output) < 1e-5
    assert relative_error(found.last_hidden_state, expected.last_hidden_state) < 1e-5


def whole_layers(module: nn.Module, not_split: set[str]):
    """The modules that have weights, down to the last, or to those of the classes that are not to be split."""
    for child in module.children():
        if type(child).__name__ in not_split or not list(child.children()):
            yield from [child] if list(child.parameters()) else []
        else:
            yield from whole_layers(child, not_split)


def test_layers_on_different_devices(model_type, model, inputs):
    """As with device_map="auto" on several GPUs: layers run where they are, and the fusion joins what they give.

    The second device is "meta", which computes shapes only, and refuses to mix with others as a GPU does.
    """
    if model_type == "backbone-fusion":
        pytest.skip("transformers' Wav2Vec2 adds what its convolutions of positions give where they gave it")
    split = build_tiny(model_type)
    not_split = set() if model_type in ("cnn14-fusion", "vggish-fusion") else set(split._no_split_modules)
    layers = list(whole_layers(split, not_split))
    for index, layer in enumerate(layers):
        device = "cpu" if index < len(layers) // 2 else "meta"
        add_hook_to_module(layer.to(device), AlignDevicesHook(execution_device=device))
    masks = [inputs["attention_mask"], torch.ones_like(inputs["attention_mask"])]
    for mask in masks:
        found = split(inputs["input_features"], mask, output_hidden_states=True)
        expected = model(inputs["input_features"], mask, output_hidden_states=True)
        for one, other in zip(found.to_tuple()[:3], expected.to_tuple()[:3], strict=True):
            assert one.device.type == "meta"
            assert one.shape == other.shape
        assert [part.device.type for part in found.hidden_states] == ["meta"] * len(expected.hidden_states)


def test_positions_of_the_outputs(model, inputs):
    with torch.no_grad():
        named = model(**inputs, output_hidden_states=True)
        for options in ({}, {"output_hidden_states": True}):
            found = model(**inputs, **options, return_dict=False)
            assert torch.equal(found[0], named.last_hidden_state)
            assert torch.equal(found[1], named.pooler_output)
            assert torch.equal(found[2], named.frame_mask)
            assert len(found) == 3 + len(options)
    assert all(torch.equal(*pair) for pair in zip(found[3], named.hidden_states, strict=True))


def test_attentions_are_those_of_eager_attention(repository, model_type, model, inputs):
    if not model.has_attentions:
        with pytest.raises(ValueError, match=r"output_attentions=True, but .* has no attention"):
            model(**inputs, output_attentions=True)
        return
    with pytest.raises(ValueError, match='attn_implementation="eager"'):
        model(**inputs, output_attentions=True)
    eager = type(model).from_pretrained(repository, attn_implementation="eager")
    with torch.no_grad():
        found, expected = eager(**inputs, output_attentions=True), model(**inputs)
    blocks, heads, tokens = 3, 2, expected.last_hidden_state.shape[1]
    if model_type == "ast-fusion":
        blocks, heads, tokens = 4, 3, 2 + math.prod(eager.config.patch_grid)
    assert [weights.shape for weights in found.attentions] == [(2, heads, tokens, tokens)] * blocks
    torch.testing.assert_close(found.attentions[0].sum(-1), torch.ones(2, heads, tokens))
    assert relative_error(found.pooler_output, expected.pooler_output) < 1e-5
    assert eager(**inputs).attentions is None
    assert len(eager(**inputs, output_attentions=True, return_dict=False)) == 4


def test_input_embeddings():
    model = build_tiny("ast-fusion")
    assert model.get_input_embeddings() is model.embeddings.projection


def test_what_a_model_has_to_define_is_named(model):
    class Unfinished(FusionModel):
        config_class = type(model.config)
        _supports_sdpa = True

    with pytest.raises(NotImplementedError, match="Unfinished has to define layer_outputs"):
        Unfinished(model.config)(torch.zeros(1, 2000, model.config.feature_size))


def test_weights_are_loaded_in_the_fast_layout_and_saved_as_before(model, repository, tmp_path):
    for loaded in (
        type(model).from_pretrained(repository),
        AutoModel.from_pretrained(repository, trust_remote_code=True),
    ):
        kernels = [module.weight for module in loaded.modules() if isinstance(module, nn.Conv2d)]
        assert kernels or model.config.model_type == "backbone-fusion"  # whose convolutions are over time alone
        if model.base_model.has_time_last:
            kernels = [weight.transpose(2, 3) for weight in kernels]
        assert all(weight.is_contiguous(memory_format=torch.channels_last) for weight in kernels)
        loaded.save_pretrained(tmp_path)
        saved, before = (
            # transformers 5.0 gives some weights of a backbone another name where it saves what it loaded.
            {model.stored_name(name): weight for name, weight in load_file(folder / "model.safetensors").items()}
            for folder in (tmp_path, repository)
        )
        assert saved.keys() == before.keys()
        assert all(torch.equal(saved[name], weight) for name, weight in before.items())

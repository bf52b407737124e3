import pytest
import torch

from tests.conftest import build_tiny, relative_error, tone

SECONDS = [0.05, 0.3, 0.32, 0.33, 1, 3.3, 5, 12]


@pytest.fixture(scope="module")
def inputs(extractor):
    return extractor(tone(3.3), sampling_rate=16000, return_tensors="pt")


def test_outputs(model, inputs):
    with torch.no_grad():
        outputs = model(**inputs, output_hidden_states=True)
    config = model.config
    frames = outputs.last_hidden_state.shape[1]
    assert outputs.pooler_output.shape == (1, config.embedding_size)
    assert outputs.last_hidden_state.shape == (1, frames, config.embedding_size)
    assert [h.shape[2] for h in outputs.hidden_states] == [config.layer_sizes[layer] for layer in config.fused_layers]
    assert torch.equal(torch.cat(outputs.hidden_states, 2), outputs.last_hidden_state)
    assert outputs.frame_mask.shape == (1, frames)
    assert model(**inputs).hidden_states is None
    assert torch.equal(model(**inputs, return_dict=False)[1], outputs.pooler_output)
    assert torch.equal(model.encode_frames(**inputs), outputs.last_hidden_state.transpose(1, 2))


def test_published_sizes_are_those_of_the_tensors(model_type, inputs):
    everything = build_tiny(model_type)
    for layer in everything.config.valid_layers:
        model = build_tiny(model_type, fusion_layers=[layer])
        assert model(**inputs).last_hidden_state.shape[2] == model.config.layer_sizes[layer]
    unfused = build_tiny(model_type, fusion_layers=None)
    assert unfused(**inputs).pooler_output.shape == (1, unfused.config.embedding_size)


def test_layers_are_fused_in_the_order_of_the_network(model_type, inputs):
    first, last = build_tiny(model_type).config.valid_layers[:2]
    ordered = build_tiny(model_type, fusion_layers=[first, last])
    reversed_ = build_tiny(model_type, fusion_layers=[last, first])
    assert torch.equal(ordered(**inputs).pooler_output, reversed_(**inputs).pooler_output)


def test_nothing_deeper_than_depth_is_built(model_type):
    layer = build_tiny(model_type).config.valid_layers[1]
    shallow = build_tiny(model_type, fusion_layers=[layer], depth=None)
    assert shallow.config.depth == layer
    assert shallow.num_parameters() < build_tiny(model_type).num_parameters()


@pytest.mark.parametrize("layers", ["default", None])
def test_a_clip_embeds_the_same_alone_or_in_a_batch(model_type, extractor, layers):
    model = build_tiny(model_type, **({} if layers == "default" else {"fusion_layers": None}))
    clips = [tone(seconds, seed=index) for index, seconds in enumerate(SECONDS)]
    with torch.no_grad():
        batch = model(**extractor(clips, sampling_rate=16000, return_tensors="pt"))
        for index, clip in enumerate(clips):
            alone = model(**extractor(clip, sampling_rate=16000, return_tensors="pt"))
            frames = int(alone.frame_mask.sum())
            assert batch.frame_mask[index].sum() == frames == extractor.num_frames(len(clip))
            assert relative_error(batch.pooler_output[index], alone.pooler_output[0]) < 1e-5
            assert relative_error(batch.last_hidden_state[index, :frames], alone.last_hidden_state[0, :frames]) < 1e-5
            assert not batch.last_hidden_state[index, frames:].any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_clip_embeds_nearly_the_same_alone_or_in_a_batch_in_half_precision(model_type, extractor, dtype):
    """What 8 bits (bfloat16) of a number allow: a matrix product of another batch size may sum in another order."""
    model, half = build_tiny(model_type), build_tiny(model_type).to(dtype)
    clips = [tone(seconds, seed=index) for index, seconds in enumerate(SECONDS)]
    with torch.no_grad():
        batch = half(**extractor(clips, sampling_rate=16000, return_tensors="pt")).pooler_output.float()
        for index, clip in enumerate(clips):
            inputs = extractor(clip, sampling_rate=16000, return_tensors="pt")
            alone, exact = half(**inputs).pooler_output[0].float(), model(**inputs).pooler_output[0]
            assert torch.nn.functional.cosine_similarity(batch[index], alone, dim=0) >= 0.999
            assert torch.nn.functional.cosine_similarity(batch[index], exact, dim=0) >= 0.999


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(model_type, model, inputs, dtype):
    half = build_tiny(model_type).to(dtype)
    with torch.no_grad():
        found, expected = half(**inputs).pooler_output, model(**inputs).pooler_output
    assert found.dtype == dtype
    assert torch.nn.functional.cosine_similarity(found.float(), expected) > 0.999


def test_training_reaches_every_weight(model_type, extractor):
    model = build_tiny(model_type).train()
    layers = model.config.fused_layers
    inputs = extractor([tone(1), tone(2, seed=1)], sampling_rate=16000, return_tensors="pt")
    model(**inputs).pooler_output.square().mean().backward()
    reached = {
        name for name, parameter in model.named_parameters() if parameter.grad is not None and parameter.grad.any()
    }
    beyond = {name for name, _ in model.named_parameters()} - reached
    assert reached
    # Only what lies behind the deepest fused layer is out of reach.
    shallow = build_tiny(model_type, depth=None, fusion_layers=list(layers))
    assert beyond == {name for name, _ in model.named_parameters()} - {name for name, _ in shallow.named_parameters()}


def test_dropout_is_for_training_only(model_type, inputs):
    model = build_tiny(model_type, fusion_layers=None)
    if not any(isinstance(module, torch.nn.Dropout) for module in model.modules()):
        pytest.skip(f"{model_type} has no dropout")
    assert torch.equal(model(**inputs).pooler_output, model(**inputs).pooler_output)
    model.train()
    for module in model.modules():
        if isinstance(module, (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d)):
            module.eval()  # so that dropout alone makes a difference
    assert not torch.equal(model(**inputs).pooler_output, model(**inputs).pooler_output)


def test_gradient_checkpointing_works_or_is_refused(model_type, extractor):
    model = build_tiny(model_type)
    if not model.supports_gradient_checkpointing:
        with pytest.raises(ValueError, match=r"does not support (gradient|activation) checkpointing"):
            model.gradient_checkpointing_enable()
        return
    inputs = extractor(tone(1), sampling_rate=16000, return_tensors="pt")
    gradients = []
    for checkpointing in (False, True):
        model = build_tiny(model_type).train()
        torch.manual_seed(0)
        if checkpointing:
            model.gradient_checkpointing_enable()
        model(**inputs).pooler_output.square().mean().backward()
        gradients.append([parameter.grad for parameter in model.parameters() if parameter.grad is not None])
    for expected, found in zip(*gradients, strict=True):
        torch.testing.assert_close(found, expected)


def test_wrong_shapes_are_named(model):
    bins = model.config.feature_size
    with pytest.raises(ValueError, match=rf"input_features has the shape .*expected \(batch, time, {bins}\)"):
        model(torch.zeros(1, 100, bins + 1))
    with pytest.raises(ValueError, match="attention_mask has the shape"):
        model(torch.zeros(1, 100, bins), attention_mask=torch.ones(1, 99))


@pytest.mark.parametrize(("name", "network", "minimum"), [("cnn14", "Cnn14", 32), ("vggish", "VGGish", 96)])
def test_a_clip_shorter_than_the_network_takes_is_refused(name, network, minimum):
    model = build_tiny(f"{name}-fusion")
    mask = torch.ones(2, 128)
    mask[1, 20:] = 0
    with pytest.raises(ValueError, match=f"has 20 mel frames, but {network}FusionModel takes a minimum of {minimum}"):
        model(torch.zeros(2, 128, 32), attention_mask=mask)


def test_an_input_of_another_length_than_ast_was_loaded_for_is_refused():
    with pytest.raises(ValueError, match="has 1024 spectrogram frames, but this model takes max_length=1200"):
        build_tiny("ast-fusion")(torch.zeros(1, 1024, 32))


def test_a_layer_beyond_depth_is_refused(model_type, tmp_path):
    valid = build_tiny(model_type).config.valid_layers
    build_tiny(model_type, fusion_layers=[valid[1]], depth=None).save_pretrained(tmp_path)
    model_class = type(build_tiny(model_type))
    with pytest.raises(ValueError, match=f"only up to depth={valid[1]}"):
        model_class.from_pretrained(tmp_path, fusion_layers=[valid[2]])


def test_a_smaller_depth_loads_part_of_a_repository(model_type, model, repository, inputs):
    layer = model.config.valid_layers[0]
    expected = build_tiny(model_type, fusion_layers=[layer])(**inputs).pooler_output
    part, info = type(model).from_pretrained(repository, fusion_layers=[layer], depth=layer, output_loading_info=True)
    assert not info["unexpected_keys"]
    # Not to the bit: its weights are laid out in another way than those of a model that is not loaded.
    assert relative_error(part(**inputs).pooler_output.detach(), expected.detach()) < 1e-6

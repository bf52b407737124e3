"""BackboneFusion with a small network of each kind, against transformers' own classes with the same weights."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import pipeline

from hf_gar import (
    ASTFusionConfig,
    ASTFusionModel,
    AudioEmbedder,
    AudioEmbeddingPipeline,
    BackboneFusionConfig,
    BackboneFusionFeatureExtractor,
    BackboneFusionForAudioClassification,
    BackboneFusionModel,
)
from hf_gar.checkpoints.ast import convert_ast
from hf_gar.embedding.length_buckets import LengthBuckets
from hf_gar.hub.export import export_repository
from hf_gar.hub.load import find_repository
from tests.conftest import relative_error, tone
from tests.tiny_backbones import BACKBONES, LAYER, save_backbone

REMOTE_CODE = Path(__file__).parents[1] / "remote_code.py"
SECONDS = [0.01, 0.3, 1, 1.03, 2.71, 3.9]
TOLERANCE = 1e-5
MEL_PIECES = 4  # of the small CLAP
# One of each kind; the others take minutes, as their feature extractors do.
QUICK = [
    name if name in ("wav2vec2 layer", "sew", "whisper", "ast", "clap") else pytest.param(name, marks=pytest.mark.slow)
    for name in BACKBONES
]


@pytest.fixture(params=BACKBONES, scope="module")
def name(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def saved(name, tmp_path_factory):
    """What transformers wrote, and its network and feature extractor."""
    folder = tmp_path_factory.mktemp("saved") / "network"
    return folder, *save_backbone(name, folder)


@pytest.fixture(scope="module")
def repository(saved, tmp_path_factory):
    """All of its layers, two of them fused."""
    folder = tmp_path_factory.mktemp("exported") / "repository"
    export_repository("backbone-fusion", saved[0], folder, all_layers=True)
    return find_repository(folder)


@pytest.fixture(scope="module")
def extractor(repository):
    return repository.load_feature_extractor()


@pytest.fixture(scope="module")
def model(repository):
    return repository.load_model(fusion_layers=list(repository.load_config().valid_layers))


def raw_inputs(extractor, waveform: np.ndarray) -> dict[str, torch.Tensor]:
    """A clip alone, as transformers' own feature extractor makes it."""
    inputs = extractor(waveform, sampling_rate=16000, return_tensors="pt")
    # A mask is there where a time step is half empty, and for codecs of another name, which is for decoding.
    return {key: value for key, value in inputs.items() if key in ("input_values", "input_features", "attention_mask")}


def raw_hidden_states(name: str, network: nn.Module, inputs: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    """Each layer's frames, (frame, D), from what transformers' own network gives for a clip."""
    if name == "dac":
        return codec_hidden_states(network.encoder, inputs["input_values"])
    if name == "clap":
        # transformers' hidden states are images, (batch, channel, row, column).
        inputs = {**inputs, "is_longer": torch.zeros(1, 1, dtype=torch.bool)}
        outputs = network.audio_model(**inputs, output_hidden_states=True)
        return [clap_frames(image[0]) for image in outputs.hidden_states]
    if name == "whisper":
        network = network.encoder
    last: list = []
    lists = [each for each in network.modules() if type(each) is nn.ModuleList]
    blocks = max(lists, key=lambda each: sum(parameter.numel() for parameter in each.parameters()))
    handle = blocks[-1].register_forward_hook(lambda module, args, output: last.append(output))
    states = list(network(**inputs, output_hidden_states=True).hidden_states)
    handle.remove()
    if name != "whisper":
        # transformers 4 and 5.0 have the normalisation after the last block in it, where there is one; later ones not.
        states[-1] = last[0][0] if isinstance(last[0], tuple) else last[0]
    if name == "ast":
        return [state[0, 2:].reshape(2, -1, state.shape[-1]).mean(0) for state in states]  # 2 rows of patches
    return [state[0] for state in states]


def codec_hidden_states(encoder: nn.Module, waveform: torch.Tensor) -> list[torch.Tensor]:
    caught: list[torch.Tensor] = []
    handles = [
        module.register_forward_hook(lambda module, args, output: caught.append(output[0]))
        for module in (encoder.conv1, *encoder.block, encoder.conv2)
    ]
    encoder(waveform)
    for handle in handles:
        handle.remove()
    frames = caught[-1].shape[1]
    return [state.reshape(len(state), frames, -1).amax(2).T for state in caught]


def clap_frames(image: torch.Tensor) -> torch.Tensor:
    """The frames of a stage's image, (channel, row, column), piece after piece, step by step."""
    _, rows, columns = image.shape
    frequencies, steps_per_frame = rows // MEL_PIECES, columns // 8  # the last stage has 8 columns
    frames = []
    for piece in range(MEL_PIECES):
        for frame in range(8):
            block = image[
                :,
                piece * frequencies : (piece + 1) * frequencies,
                frame * steps_per_frame : (frame + 1) * steps_per_frame,
            ]
            frames.append(block.amax(2).flatten())
    return torch.stack(frames)


def test_the_hidden_states_are_transformers_own(name, saved, model, extractor):
    _, network, own_extractor = saved
    clip = tone(2.71)
    with torch.no_grad():
        found = model(**extractor(clip, sampling_rate=16000, return_tensors="pt"), output_hidden_states=True)
        expected = raw_hidden_states(name, network, raw_inputs(own_extractor, clip))
    assert len(found.hidden_states) == len(expected) == len(model.config.valid_layers)
    frames = extractor.num_frames(len(clip))
    for layer, (ours, theirs) in enumerate(zip(found.hidden_states, expected, strict=True)):
        assert ours.shape[2] == model.config.layer_sizes[layer] == theirs.shape[1]
        assert relative_error(ours[0, :frames], theirs[:frames]) < TOLERANCE, f"layer {layer}"


def test_a_clip_alone_is_a_clip_in_a_batch(name, model, extractor):
    assert model.config.is_padding_safe == BACKBONES[name].is_padding_safe
    clips = [tone(seconds, seed=index) for index, seconds in enumerate(SECONDS)]
    with torch.no_grad():
        batch = model(**extractor(clips, sampling_rate=16000, return_tensors="pt"))
        for index, clip in enumerate(clips):
            alone = model(**extractor(clip, sampling_rate=16000, return_tensors="pt"))
            frames = int(alone.frame_mask.sum())
            assert batch.frame_mask[index].sum() == frames == extractor.num_frames(len(clip))
            assert relative_error(batch.pooler_output[index], alone.pooler_output[0]) < TOLERANCE
            assert (
                relative_error(batch.last_hidden_state[index, :frames], alone.last_hidden_state[0, :frames]) < TOLERANCE
            )
            assert not batch.last_hidden_state[index, frames:].any()


@pytest.mark.parametrize("name", [name for name in BACKBONES if not BACKBONES[name].is_padding_safe], scope="module")
def test_what_is_not_safe_under_padding_is_not(model, extractor):
    """Run as one batch, a clip would not be what it is alone."""
    if extractor.max_length is not None:
        pytest.skip("takes inputs of one length")
    clips = [tone(0.7), tone(3.9, seed=1)]
    inputs = extractor(clips, sampling_rate=16000, return_tensors="pt")
    with torch.no_grad():
        alone = model(**extractor(clips[0], sampling_rate=16000, return_tensors="pt")).last_hidden_state[0]
        padded = torch.cat(model._run(inputs["input_features"], None).frames, dim=2)[0, : len(alone)]
    assert relative_error(padded, alone) > 100 * TOLERANCE


def test_attentions_are_transformers_own(name, saved, repository, extractor):
    _, network, own_extractor = saved
    eager = BackboneFusionModel.from_pretrained(repository.folder, attn_implementation="eager").eval()
    clips = [tone(2.71), tone(1.3, seed=1)]
    inputs = extractor(clips, sampling_rate=16000, return_tensors="pt")
    if name in ("clap", "dac"):
        with pytest.raises(ValueError, match="has no attentions to return"):
            eager(**inputs, output_attentions=True)
        return
    network = network.encoder if name == "whisper" else network
    network.set_attn_implementation("eager")
    with torch.no_grad():
        found = eager(**inputs, output_attentions=True)
        assert len(found.attentions) == eager.config.depth
        for index, clip in enumerate(clips):
            expected = network(**raw_inputs(own_extractor, clip), output_attentions=True).attentions
            for ours, theirs in zip(found.attentions, expected, strict=True):
                # Of those that take any length, transformers' feature extractors pad some.
                tokens = theirs.shape[-1] if extractor.max_length else extractor.num_frames(len(clip))
                assert relative_error(ours[index, :, :tokens, :tokens], theirs[0, :, :tokens, :tokens]) < TOLERANCE
                assert relative_error(ours[index, :, :tokens].sum(-1), torch.ones(ours.shape[1], tokens)) < TOLERANCE
        assert eager(**inputs).attentions is None


def test_blocks_beyond_the_deepest_fused_layer_are_held_but_not_run(name, repository, model, extractor, tmp_path):
    first = repository.load_model(fusion_layers=[1])
    ran = []
    blocks = [
        module
        for path, module in first.network.named_modules()
        if any(re.fullmatch(each.format(r"\d+"), path) for each in first.audio_network.block_paths)
    ]
    assert len(blocks) == first.config.depth - len(first.audio_network.last_modules[:1])
    for number, block in enumerate(blocks):
        block.register_forward_hook(lambda *_, number=number: ran.append(number))
    inputs = extractor(tone(1), sampling_rate=16000, return_tensors="pt")
    with torch.no_grad():
        found = first(**inputs).last_hidden_state
        assert ran == [0]
        expected = model(**inputs, output_hidden_states=True).hidden_states[1]
    assert relative_error(found, expected) < 1e-6
    first.save_pretrained(tmp_path)
    assert load_file(tmp_path / "model.safetensors").keys() == load_file(repository.folder / "model.safetensors").keys()


def test_frame_times_are_where_the_sound_is(repository, extractor):
    """Other noise at some time moves the frame whose time is nearest to it most, before the blocks spread it.

    It is as loud, since some networks normalise over all times.
    """
    model = repository.load_model(fusion_layers=[0])
    noise = 0.1 * np.random.default_rng(0).normal(size=48000).astype(np.float32)
    other = noise.copy()
    other[31600:32400] = noise[:800]
    with torch.no_grad():
        frames = model(**extractor([noise, other], sampling_rate=16000, return_tensors="pt")).last_hidden_state
    frames = frames[:, : extractor.num_frames(48000)]
    times = extractor.frame_times(frames.shape[1])
    np.testing.assert_allclose(np.diff(times), model.config.frame_hop_s)
    assert times[-1] < 3
    changed = (frames[1] - frames[0]).norm(dim=1).argmax()
    # Convolutions of positions see frames on either side.
    assert abs(times[changed] - 2) < max(0.15, model.config.frame_hop_s)


def test_save_load_save(repository, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    for folder, source in ((first, repository.folder), (second, first)):
        BackboneFusionModel.from_pretrained(source).save_pretrained(folder)
        BackboneFusionFeatureExtractor.from_pretrained(source).save_pretrained(folder)
    for file in ("config.json", "preprocessor_config.json", "model.safetensors"):
        assert (first / file).read_bytes() == (second / file).read_bytes()
    for file in ("preprocessor_config.json", "model.safetensors"):
        assert (first / file).read_bytes() == (repository.folder / file).read_bytes()


def test_nothing_deeper_is_stored_or_missed(saved, repository, extractor, tmp_path):
    """A repository up to the first layer, and part of the whole one, give what the whole one gives."""
    export_repository("backbone-fusion", saved[0], tmp_path / "part", fusion_layers=[1])
    part = find_repository(tmp_path / "part")
    assert part.load_config().depth == 1
    kept, whole = (load_file(each.folder / "model.safetensors") for each in (part, repository))
    assert kept.keys() < whole.keys()
    inputs = extractor(tone(1), sampling_rate=16000, return_tensors="pt")
    with torch.no_grad():
        expected = repository.load_model(fusion_layers=[1])(**inputs).pooler_output
        assert relative_error(part.load_model()(**inputs).pooler_output, expected) < 1e-6
        loaded = repository.load_model(fusion_layers=[1], depth=1)
        assert loaded.num_parameters() == part.load_model().num_parameters()
        assert relative_error(loaded(**inputs).pooler_output, expected) < 1e-6
    with pytest.raises(ValueError, match="only up to depth=1"):
        part.load_model(fusion_layers=[2])


@pytest.mark.parametrize("name", QUICK, scope="module")
def test_a_long_recording(model, extractor):
    """In chunks: by the pipeline, by the embedder, and with a batch of chunks as one by one."""
    clip = tone(95)
    embed = pipeline(
        "feature-extraction",
        model=model,
        feature_extractor=extractor,
        pipeline_class=AudioEmbeddingPipeline,
        device="cpu",
    )
    longest = []
    handle = model.network.register_forward_pre_hook(
        lambda module, args, kwargs: longest.append(max(t.numel() for t in kwargs.values() if torch.is_tensor(t))),
        with_kwargs=True,
    )
    timed = embed(clip, timestamps=True, return_tensors=True)
    handle.remove()
    frames = extractor.num_frames(len(clip))
    assert timed["embeddings"].shape == (frames, model.config.embedding_size)
    assert len(timed["timestamps"]) == frames
    by_pipeline = embed(clip, return_tensors=True)
    pooled = timed["embeddings"].amax(0) + timed["embeddings"].mean(0)
    assert relative_error(by_pipeline, pooled) < TOLERANCE
    (by_embedder,) = AudioEmbedder(model, extractor, with_frames=True, batch_size=3).embed([clip])
    assert relative_error(by_embedder.clip, by_pipeline) < TOLERANCE
    assert relative_error(by_embedder.frames, timed["embeddings"]) < TOLERANCE
    limit = extractor.max_samples or 40 * 16000 + extractor.minimum_samples
    assert not longest or max(longest) <= limit * extractor.feature_size / extractor.hop_length + limit


def test_silence_and_short_clips(model, extractor):
    with torch.no_grad():
        for clip in (np.zeros(16000, np.float32), tone(1)[:1], tone(1)[:200]):
            outputs = model(**extractor(clip, sampling_rate=16000, return_tensors="pt"))
            assert outputs.pooler_output.isfinite().all()
            assert outputs.frame_mask.sum() == extractor.num_frames(len(clip)) >= 1


def remotely(repository: Path, folder: Path) -> dict[str, np.ndarray]:
    soundfile.write(folder / "a.wav", tone(2), 16000, subtype="FLOAT")
    command = [sys.executable, REMOTE_CODE, repository, folder / "a.wav", folder / "out.npz"]
    environment = {**os.environ, "HF_HOME": str(folder / "cache"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(np.load(folder / "out.npz"))


@pytest.mark.slow
def test_remote_code_without_hf_gar(repository, extractor, tmp_path):
    found = remotely(repository.folder, tmp_path)
    with torch.no_grad():
        expected = repository.load_model()(**extractor(tone(2), sampling_rate=16000, return_tensors="pt"))
    for key in ("clip", "pipeline"):
        assert relative_error(found[key], expected.pooler_output) < 1e-6
    frames = expected.last_hidden_state[:, expected.frame_mask[0]]
    assert relative_error(found["pipeline_frames"], frames) < 1e-6


@pytest.mark.slow
def test_training_a_classifier(repository, extractor):
    labels = {"num_labels": 3}
    classifier = BackboneFusionForAudioClassification.from_pretrained(repository.folder, **labels).train()
    inputs = extractor([tone(1), tone(2, seed=1)], sampling_rate=16000, return_tensors="pt")
    classifier(**inputs, labels=torch.tensor([0, 2])).loss.backward()
    assert all(parameter.grad is not None for parameter in classifier.classifier.parameters())
    assert any(parameter.grad is not None and parameter.grad.any() for parameter in classifier.backbone.parameters())


# One network alone


@pytest.fixture(scope="module")
def ast_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ast")
    save_backbone("ast", folder)
    return folder


@pytest.mark.parametrize("layers", [[1, 3], [2], [1, 2, 3]])
def test_ast_through_this_door_is_ast_fusion(ast_folder, tmp_path, layers):
    """AST-Fusion counts blocks from 0, normalises each layer, and makes a clip of the class and distillation tokens."""
    converted = convert_ast(ast_folder)
    sizes = {**converted.config, "max_length": 500, "layer_norm_eps": 1e-12}
    config = ASTFusionConfig(fusion_layers=[layer - 1 for layer in layers], depth=2, **sizes)
    expected_model = ASTFusionModel.from_pretrained(None, config=config, state_dict=converted.state_dict).eval()
    export_repository("backbone-fusion", ast_folder, tmp_path / "out", normalize_layers=True, fusion_layers=layers)
    repository = find_repository(tmp_path / "out")
    extractor = repository.load_feature_extractor()
    inputs = extractor([tone(1), tone(4, seed=1)], sampling_rate=16000, return_tensors="pt")
    with torch.no_grad():
        expected = expected_model(**inputs)
        by_mean = repository.load_model(pooling="mean")(**inputs)
        by_tokens = repository.load_model(pooling="cls")(**inputs)
    assert torch.equal(by_mean.frame_mask, expected.frame_mask)
    assert relative_error(by_mean.last_hidden_state, expected.last_hidden_state) < TOLERANCE
    # The mean of the same tokens: those of the patches that are a clip's own.
    counts = expected.frame_mask.sum(1, keepdim=True)
    assert relative_error(by_mean.pooler_output, expected.last_hidden_state.sum(1) / counts) < TOLERANCE
    assert relative_error(by_tokens.pooler_output, expected.pooler_output) < TOLERANCE


def test_tokens_of_long_recordings_are_averaged_by_duration(ast_folder, tmp_path):
    export_repository("backbone-fusion", ast_folder, tmp_path / "out", pooling="cls")
    repository = find_repository(tmp_path / "out")
    model, extractor = repository.load_model(), repository.load_feature_extractor()
    embed = pipeline(
        "feature-extraction",
        model=model,
        feature_extractor=extractor,
        pipeline_class=AudioEmbeddingPipeline,
        device="cpu",
    )
    clip = tone(7)
    step = extractor.chunk_frames * extractor.frame_samples
    pieces = [clip[: extractor.max_samples], clip[step:]]
    with torch.no_grad():
        first, second = (
            model(**extractor(piece, sampling_rate=16000, return_tensors="pt")).pooler_output[0] for piece in pieces
        )
    frames = extractor.num_frames(len(clip))
    share = extractor.chunk_frames / frames
    assert relative_error(embed(clip, return_tensors=True), share * first + (1 - share) * second) < TOLERANCE
    with pytest.raises(ValueError, match=r"A clip has 112000 samples, more than the .* that the network takes"):
        extractor(clip, sampling_rate=16000)


def test_whisper_sees_its_input_as_transformers_makes_it(tmp_path):
    _, own = save_backbone("whisper", tmp_path / "saved")
    export_repository("backbone-fusion", tmp_path / "saved", tmp_path / "out")
    extractor = find_repository(tmp_path / "out").load_feature_extractor()
    clip = tone(1.5)
    found = extractor(clip, sampling_rate=16000, return_tensors="np")
    expected = own(clip, sampling_rate=16000, return_tensors="np")["input_features"]
    assert np.array_equal(found["input_features"].transpose(0, 2, 1), expected)
    assert (extractor.num_frames(24000), extractor.chunk_frames) == (75, 200)


def test_weights_by_the_names_that_transformers_5_0_stores(tmp_path):
    """It calls those of weight normalisation as PyTorch did before, once it has loaded them."""
    save_backbone("wav2vec2 layer", tmp_path / "saved")
    export_repository("backbone-fusion", tmp_path / "saved", tmp_path / "out")
    repository = find_repository(tmp_path / "out")
    weights = load_file(repository.folder / "model.safetensors")
    expected = repository.load_model().state_dict()
    conv = "network.encoder.pos_conv_embed.conv"
    older = {
        f"{conv}.parametrizations.weight.original{number}": f"{conv}.weight_{letter}"
        for number, letter in enumerate("gv")
    }
    weights = {older.get(name, name): weight for name, weight in weights.items()}
    assert weights.keys() >= set(older.values())
    save_file(weights, repository.folder / "model.safetensors", metadata={"format": "pt"})
    found = find_repository(repository.folder).load_model().state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_the_default_layers_are_the_papers_of_ast():
    for layers, expected in ((1, [1]), (4, [2, 4]), (6, [2, 6]), (12, [5, 12]), (24, [10, 24])):
        config = BackboneFusionConfig({"model_type": "wav2vec2", "num_hidden_layers": layers})
        assert config.fusion_layers == expected
        assert config.depth == layers


def test_an_unsafe_network_waits_for_clips_of_its_length(tmp_path):
    save_backbone("wav2vec2 group", tmp_path / "saved")
    export_repository("backbone-fusion", tmp_path / "saved", tmp_path / "out")
    repository = find_repository(tmp_path / "out")
    model, extractor = repository.load_model(), repository.load_feature_extractor()
    clips = [tone(seconds, seed=index) for index, seconds in enumerate([1, 1.01, 1, 1.01, 1.02])]
    batches = []
    handle = model.network.register_forward_pre_hook(
        lambda module, args, kwargs: batches.append(tuple(kwargs["input_values"].shape)), with_kwargs=True
    )
    found = AudioEmbedder(model, extractor).embed(clips)
    handle.remove()
    assert sorted(batches) == [(1, 16320), (2, 16000), (2, 16160)]
    with torch.no_grad():
        for clip, embedding in zip(clips, found, strict=True):
            alone = model(**extractor(clip, sampling_rate=16000, return_tensors="pt")).pooler_output[0]
            assert relative_error(embedding.clip, alone) < TOLERANCE
    buckets = LengthBuckets(model, extractor)
    assert buckets.length_class(16000) != buckets.length_class(16160)


BASE = {"model_type": "wav2vec2", **LAYER}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"backbone_config": 5}, "backbone_config has to be an object"),
        ({"backbone_config": {"model_type": "bert"}}, "has model_type='bert'. BackboneFusion takes audio-spec"),
        ({"backbone_config": {"hidden_size": 5}}, "has model_type=None"),
        ({"backbone_config": {**BASE, "auto_map": {"AutoModel": "a.B"}}}, "names code of its own"),
        ({"backbone_config": {**BASE, "num_hidden_layers": 10**7}}, "number of layers .* from 1 to 1024"),
        ({"backbone_config": {**BASE, "conv_dim": [1]}}, "is not a configuration of a wav2vec2"),
        ({"fusion_layers": [4]}, r"unknown layers \[4\]; valid layers are 0, 1, 2, 3"),
        ({"fusion_layers": []}, "fusion_layers is empty"),
        ({"depth": 4}, "depth has to be one of the layers 0, 1, 2, 3"),
        ({"pooling": "max"}, "pooling has to be one of 'max_mean', 'mean', 'cls'"),
        ({"pooling": "cls"}, "Wav2Vec2Model has no tokens of the whole clip"),
        ({"normalize_layers": 1}, "normalize_layers has to be true or false"),
        ({"input_length": 100}, "Wav2Vec2Model takes inputs of any length"),
        (
            {"backbone_config": {**BASE, "do_stable_layer_norm": False}, "normalize_layers": True},
            "Wav2Vec2Model has no normalisation after its last block",
        ),
        ({"backbone_config": {"model_type": "whisper"}, "input_length": 1000}, "fixed length, of 3000 time steps"),
        ({"audio_network": 3}, "audio_network is not a field of a"),
    ],
)
def test_a_wrong_field_is_named(fields, message):
    with pytest.raises(ValueError, match=message):
        BackboneFusionConfig(**{"backbone_config": BASE, **fields})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"backbone_feature_extractor": 5}, "has to be an object"),
        ({"backbone_feature_extractor": {"feature_extractor_type": "EncodecFeatureExtractor"}}, "takes ASTFeatureExt"),
        (
            {
                "backbone_feature_extractor": {
                    "feature_extractor_type": "Wav2Vec2FeatureExtractor",
                    "auto_map": {"a": "b"},
                }
            },
            "names code of its own",
        ),
        ({"frame_hop": 0}, "frame_hop has to be a number from 1"),
        ({"sampling_rate": 8000}, "sampling_rate has to be the network's own, 16000, not 8000"),
    ],
)
def test_a_wrong_field_of_the_feature_extractor_is_named(fields, message):
    with pytest.raises(ValueError, match=message):
        BackboneFusionFeatureExtractor(**fields)


def test_a_feature_extractor_of_another_network_is_refused():
    config = BackboneFusionConfig(BASE)
    with pytest.raises(ValueError, match="has frame_window=400, but its model takes 1240"):
        BackboneFusionFeatureExtractor().match(config)


def test_padding_without_a_mask_is_refused_where_a_network_is_traced(tmp_path):
    save_backbone("wav2vec2 group", tmp_path / "saved")
    export_repository("backbone-fusion", tmp_path / "saved", tmp_path / "out")
    model = find_repository(tmp_path / "out").load_model()
    inputs = {"input_features": torch.zeros(2, 16000, 1), "attention_mask": torch.ones(2, 16000)}
    with pytest.raises(ValueError, match="Wav2Vec2Model is not safe under padding"):
        torch.export.export(model, (), kwargs=inputs)

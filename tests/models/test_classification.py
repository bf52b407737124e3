"""Classifiers on the fusion models: logits, losses, loading and saving with a head, without one, with another one."""

import copy
import json
import logging

import datasets
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoModel,
    AutoModelForAudioClassification,
    Trainer,
    TrainingArguments,
    pipeline,
)

from hf_gar.models import FusionForAudioClassification
from hf_gar.registry import MODELS
from tests.conftest import (
    LABELS,
    ONE_MODEL_BY_DEFAULT,
    build_tiny,
    build_tiny_classifier,
    relative_error,
    save_tiny,
    save_tiny_classifier,
    tone,
)

SAVED = ("config.json", "model.safetensors")


@pytest.fixture(scope="module")
def clips() -> list[np.ndarray]:
    return [tone(3.3), tone(2, seed=1), tone(1, seed=2)]


@pytest.fixture
def inputs(extractor, clips):
    return extractor(clips, sampling_rate=16000, return_tensors="pt")


def own_network_layer(model_type: str) -> int:
    return {"vggish-fusion": 21, "cnn14-fusion": 7, "ast-fusion": 3, "backbone-fusion": 3}[model_type]


def load_by_auto(folder, **options):
    return AutoModelForAudioClassification.from_pretrained(folder, trust_remote_code=True, **options)


# Logits


@pytest.mark.parametrize("norm", ["batch_norm", "layer_norm", None])
def test_logits_are_a_linear_layer_on_the_normalized_clip_embedding(model_type, inputs, norm):
    classifier = build_tiny_classifier(model_type, classifier_norm=norm)
    with torch.no_grad():
        embeddings = build_tiny(model_type)(**inputs).pooler_output.numpy()
        logits = classifier(**inputs).logits
    if norm == "batch_norm":
        mean, variance = (getattr(classifier.classifier_norm, name).numpy() for name in ("running_mean", "running_var"))
        embeddings = (embeddings - mean) / np.sqrt(variance + 1e-5)
    elif norm == "layer_norm":
        eps = classifier.classifier_norm.eps
        centred = embeddings - embeddings.mean(1, keepdims=True)
        embeddings = centred / np.sqrt((centred**2).mean(1, keepdims=True) + eps)
    weight, bias = classifier.classifier.weight.detach().numpy(), classifier.classifier.bias.detach().numpy()
    assert relative_error(logits, embeddings @ weight.T + bias) < 1e-5


def test_a_clip_is_classified_the_same_alone_or_in_a_batch(classifier, extractor, clips, inputs):
    with torch.no_grad():
        together = classifier(**inputs).logits
        for logits, clip in zip(together, clips, strict=True):
            alone = classifier(**extractor(clip, sampling_rate=16000, return_tensors="pt")).logits[0]
            assert relative_error(logits, alone) < 1e-5


def test_outputs_by_name_and_by_position(model_type, classifier, inputs):
    labels = torch.tensor([0, 1, 2])
    with torch.no_grad():
        named = classifier(**inputs, labels=labels, output_hidden_states=True)
        loss, logits, hidden_states = classifier(**inputs, labels=labels, output_hidden_states=True, return_dict=False)
        expected = build_tiny(model_type)(**inputs, output_hidden_states=True).hidden_states
    assert torch.equal(named.logits, logits)
    assert torch.equal(named.loss, loss)
    for ours, other in zip(hidden_states, expected, strict=True):
        assert relative_error(ours, other) < 1e-6
    assert classifier(**inputs).keys() == {"logits"}


def test_bfloat16(classifier_repository, classifier, inputs):
    half = load_by_auto(classifier_repository, dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in half.parameters()} == {torch.bfloat16}
    with torch.no_grad():
        found, expected = half(**inputs).logits.float(), classifier(**inputs).logits
    assert (torch.nn.functional.cosine_similarity(found, expected) > 0.999).all()


def test_the_network_has_a_classifier_for_layers_of_its_own(model_type, inputs, tmp_path):
    """As the official ones: fused embeddings by AutoModel, and labels of the network's own embedding."""
    layer = own_network_layer(model_type)
    folder = save_tiny_classifier(model_type, tmp_path / "a", classifier_layers=[layer], classifier_norm="layer_norm")
    classifier, backbone = load_by_auto(folder), AutoModel.from_pretrained(folder, trust_remote_code=True)
    with torch.no_grad():
        fused = build_tiny(model_type)(**inputs).pooler_output
        own = build_tiny(model_type, fusion_layers=None)(**inputs).pooler_output
        assert relative_error(backbone(**inputs).pooler_output, fused) < 1e-6
        assert relative_error(classifier(**inputs).logits, classifier.classify(own)) < 1e-6
    assert classifier.config.fusion_layers == backbone.config.fusion_layers != [layer]
    # However the fusion is chosen, the classifier stays where it is.
    first = backbone.config.valid_layers[0]
    other = load_by_auto(folder, fusion_layers=[first])
    with torch.no_grad():
        assert torch.equal(other(**inputs).logits, classifier(**inputs).logits)


def test_a_classifier_stays_on_the_layers_it_was_saved_with(classifier_repository, classifier, inputs):
    first = classifier.config.valid_layers[0]
    other = load_by_auto(classifier_repository, fusion_layers=[first])
    with torch.no_grad():
        assert relative_error(other(**inputs).logits, classifier(**inputs).logits) < 1e-6


# Losses


def test_the_loss_is_cross_entropy(model_type, inputs):
    classifier = build_tiny_classifier(model_type)
    labels = torch.tensor([3, 0, 1])
    outputs = classifier(**inputs, labels=labels)
    assert torch.allclose(outputs.loss, torch.nn.functional.cross_entropy(outputs.logits, labels))
    outputs.loss.backward()
    assert all(parameter.grad is not None for parameter in classifier.classifier.parameters())


@pytest.mark.parametrize("kind", [torch.float32, torch.int64, torch.bool])
def test_the_loss_of_several_labels_is_binary(model_type, inputs, kind):
    classifier = build_tiny_classifier(model_type, problem_type="multi_label_classification")
    labels = torch.tensor([[1, 0, 1, 0], [0, 0, 0, 0], [1, 1, 1, 1]])
    outputs = classifier(**inputs, labels=labels.to(kind))
    expected = torch.nn.functional.binary_cross_entropy_with_logits(outputs.logits, labels.float())
    assert torch.allclose(outputs.loss, expected)


def test_without_a_problem_type_the_labels_tell(inputs):
    inputs = build_inputs("cnn14-fusion")
    for labels, kind in (
        (torch.tensor([0]), "single_label_classification"),
        (torch.tensor([[1.0, 0, 0, 1]]), "multi_label_classification"),
    ):
        classifier = build_tiny_classifier("cnn14-fusion")
        classifier(**inputs, labels=labels)
        assert classifier.config.problem_type == kind  # is saved, and tells the pipeline


def build_inputs(model_type: str):
    return MODELS[model_type].feature_extractor(feature_size=32)(tone(2), sampling_rate=16000, return_tensors="pt")


@pytest.mark.parametrize(
    ("config", "labels", "message"),
    [
        ({}, torch.tensor([[1, 0, 0, 0]]), r"labels has the shape \(1, 4\), expected \(1,\) for problem_type='single_"),
        ({"problem_type": "multi_label_classification"}, torch.tensor([1]), r"shape \(1,\), expected \(1, 4\)"),
        ({}, torch.tensor([1.0]), r"shape \(1,\), expected \(1, 4\) for problem_type='multi_label"),
        ({"labels": ["dog"]}, torch.tensor([0]), "There is only one label, which every clip has"),
        ({}, torch.tensor([4]), "labels has the number 4, but the classifier has 4 labels, which are numbered from 0"),
    ],
)
def test_labels_of_another_shape(config, labels, message):
    with pytest.raises(ValueError, match=message):
        build_tiny_classifier("cnn14-fusion", **config)(**build_inputs("cnn14-fusion"), labels=labels)


# Loading and saving


def test_a_repository_without_a_head_gets_a_new_one_with_a_warning(model_type, repository, inputs, caplog):
    logging.getLogger("transformers").propagate = True
    try:
        with caplog.at_level(logging.WARNING, "transformers"):
            loaded, info = load_by_auto(
                repository, id2label=dict(enumerate(LABELS)), num_labels=4, output_loading_info=True
            )
    finally:
        logging.getLogger("transformers").propagate = False
    new = {name for name in loaded.state_dict() if not name.startswith("backbone.")}
    assert (
        set(info["missing_keys"])
        == new
        == {
            "classifier.weight",
            "classifier.bias",
            *(f"classifier_norm.{name}" for name in ("running_mean", "running_var", "num_batches_tracked")),
        }
    )
    assert "classifier.weight" in caplog.text
    assert "newly initialized" in caplog.text
    assert loaded.classifier_norm.running_mean.eq(0).all()
    assert loaded.classifier_norm.running_var.eq(1).all()
    assert 0.01 < loaded.classifier.weight.std() < 0.05
    with torch.no_grad():
        expected = loaded.classify(build_tiny(model_type)(**inputs).pooler_output)
        assert relative_error(loaded(**inputs).logits, expected) < 1e-5


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_save_load_save(classifier_repository, dtype, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    load_by_auto(classifier_repository, dtype=dtype).save_pretrained(first)
    load_by_auto(first, dtype="auto").save_pretrained(second)
    for name in SAVED:
        if dtype == torch.float32:
            assert (first / name).read_bytes() == (classifier_repository / name).read_bytes()
        assert (second / name).read_bytes() == (first / name).read_bytes()
    # With all of its code: but for the feature extractor's, it is a repository again.
    files = {path.name for path in classifier_repository.iterdir()}
    assert {path.name for path in first.iterdir()} == {
        name for name in files if not name.startswith(("feature_extraction", "preprocessor", "log_mel"))
    }


def test_either_class_saves_what_both_load(model_type, repository, classifier_repository, tmp_path, inputs, caplog):
    for source in (repository, classifier_repository):
        config = json.loads((source / "config.json").read_text())
        module = f"modeling_{model_type.replace('-', '_')}"
        spec = MODELS[model_type]
        assert config["auto_map"] == {
            "AutoConfig": f"configuration_{model_type.replace('-', '_')}.{spec.config.__name__}",
            "AutoModel": f"{module}.{spec.model.__name__}",
            "AutoModelForAudioClassification": f"{module}.{spec.classifier.__name__}",
        }
    logging.getLogger("transformers").propagate = True
    try:
        with caplog.at_level(logging.WARNING, "transformers"):
            backbone, info = AutoModel.from_pretrained(
                classifier_repository, trust_remote_code=True, output_loading_info=True
            )
    finally:
        logging.getLogger("transformers").propagate = False
    assert not caplog.text
    assert not any(info.values())
    with torch.no_grad():
        found, expected = backbone(**inputs).pooler_output, build_tiny(model_type)(**inputs).pooler_output
    assert relative_error(found, expected) < 1e-6
    backbone.save_pretrained(tmp_path)
    weights, expected = load_file(tmp_path / "model.safetensors"), load_file(repository / "model.safetensors")
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[name], expected[name]) for name in weights)
    assert load_by_auto(tmp_path).config.id2label == dict(enumerate(LABELS))


def test_part_of_the_network(model_type, classifier_repository, repository):
    """AutoModel needs no layer for the classifier's sake; a classifier needs its own."""
    first, last = (build_tiny(model_type).config.valid_layers[index] for index in (0, -1))
    options = {"fusion_layers": [first], "depth": first}
    backbone = AutoModel.from_pretrained(classifier_repository, trust_remote_code=True, **options)
    assert backbone.state_dict().keys() == build_tiny(model_type, **options).state_dict().keys()
    with pytest.raises(ValueError, match=rf"The classifier is on the layers \[\d+, {last}\], but .* depth={first}"):
        load_by_auto(classifier_repository, **options) if model_type == "cnn14-fusion" else load_by_auto(
            save_with_layers(model_type, classifier_repository, last), **options
        )
    loaded, info = load_by_auto(repository, **options, output_loading_info=True)
    assert not info["unexpected_keys"]
    assert loaded.backbone.state_dict().keys() == backbone.state_dict().keys()


def save_with_layers(model_type, repository, last):
    folder = repository.parent / "on the last layer"
    if not folder.exists():
        save_tiny_classifier(model_type, folder, classifier_layers=[1, last])
    return folder


def test_depth_reaches_the_classifier(model_type):
    spec = MODELS[model_type]
    config = spec.config(classifier_layers=[spec.config().unfused_layer])
    assert config.depth == config.unfused_layer
    assert spec.config(classifier_layers=[config.unfused_layer], fusion_layers=[4]).depth == config.unfused_layer
    assert spec.config(fusion_layers=[4], classifier_layers=(4,)).depth == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"num_labels": 7},
            r"does not have 7 labels on the layers \[.*classifier.bias has another shape than \(7,\); cl",
        ),
        ({"classifier_norm": None}, r"classifier_norm=None: .*classifier_norm\.running_mean is unknown"),
    ],
)
def test_a_head_that_is_not_the_configurations(classifier_repository, options, message):
    with pytest.raises(ValueError, match=message):
        load_by_auto(classifier_repository, **options)


def test_a_new_head_in_place_of_another(classifier_repository):
    loaded = load_by_auto(classifier_repository, num_labels=7, ignore_mismatched_sizes=True)
    assert loaded.classifier.weight.shape[0] == 7
    assert loaded.classifier.weight.std() < 0.1


def test_a_head_that_is_incomplete_or_of_integers(model_type, tmp_path):
    folder = save_tiny_classifier(model_type, tmp_path / "a")
    weights = load_file(folder / "model.safetensors")
    bias = weights.pop("classifier.bias")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"classifier\.bias is missing"):
        load_by_auto(folder)
    weights["classifier.bias"] = bias.to(torch.int8)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"1 not of a floating type \(classifier\.bias torch\.int8\)"):
        load_by_auto(folder)
    weights["classifier.bias"] = bias * float("nan")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"The weight classifier\.bias has values that are NaN"):
        load_by_auto(folder)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"classifier_norm": "instance"},
            "classifier_norm has to be one of 'batch_norm', 'layer_norm', None, not 'inst",
        ),
        ({"problem_type": "regression"}, "problem_type has to be one of 'single_label_classification', 'multi_label"),
        ({"rejection_threshold": 1.1}, "rejection_threshold has to be a number from 0 to 1, not 1.1"),
        ({"rejection_threshold": "0.5"}, "rejection_threshold has to be a number from 0 to 1, not '0.5'"),
        ({"classifier_layers": [99]}, r"classifier_layers=\[99\] has unknown layers"),
        ({"classifier_layers": []}, "classifier_layers is empty"),
        ({"classifier_layers": "all"}, "classifier_layers has to be a list of layer numbers or None"),
        ({"classifier_layers": [4, 4]}, r"classifier_layers=\[4, 4\] repeats a layer"),
        ({"num_labels": 0}, "num_labels has to be an integer from 1"),
        ({"id2label": ["dog"]}, "id2label has to be an object"),
        ({"id2label": {1: "dog", 2: "cat"}}, r"id2label has to number the labels from 0 to 1, not \[1, 2\]"),
    ],
)
def test_fields_of_the_configuration(model_type, fields, message):
    with pytest.raises(ValueError, match=message):
        MODELS[model_type].config(**fields)


# Training


def test_a_frozen_backbone_keeps_its_weights_and_statistics(model_type, inputs):
    classifier = build_tiny_classifier(model_type)
    before = copy.deepcopy(classifier.state_dict())
    classifier.freeze_feature_encoder()
    classifier.train()
    assert classifier.training
    assert not classifier.backbone.training
    assert not any(parameter.requires_grad for parameter in classifier.backbone.parameters())
    optimizer = torch.optim.SGD([weight for weight in classifier.parameters() if weight.requires_grad], lr=0.1)
    classifier(**inputs, labels=torch.tensor([0, 1, 2])).loss.backward()
    optimizer.step()
    changed = {name for name, weight in classifier.state_dict().items() if not torch.equal(weight, before[name])}
    assert changed == {name for name in before if name.startswith("classifier")}
    classifier.backbone.requires_grad_(True)
    assert classifier.train().backbone.training


def test_a_batch_of_one_clip_trains(model_type):
    classifier = build_tiny_classifier(model_type)
    statistics = classifier.classifier_norm.running_mean.clone()
    classifier.classifier_norm.train()
    embedding = torch.randn(1, classifier.backbone.config.embedding_size)
    assert classifier.classify(embedding).isfinite().all()
    assert torch.equal(classifier.classifier_norm.running_mean, statistics)
    classifier.classify(embedding.repeat(2, 1))
    assert not torch.equal(classifier.classifier_norm.running_mean, statistics)


def test_the_statistics_are_the_batches_from_the_first_on(model_type):
    norm = build_tiny_classifier(model_type).classifier_norm
    norm.reset_running_stats()
    norm.train()
    embeddings = 5 + 0.01 * torch.randn(3, 8, norm.num_features)
    for batch in embeddings:
        norm(batch)
    torch.testing.assert_close(norm.running_mean, embeddings.mean((0, 1)))
    torch.testing.assert_close(norm.running_var, embeddings.var(1).mean(0))


@ONE_MODEL_BY_DEFAULT
def test_as_transformers_example_script_trains(model_type, tmp_path):
    """What run_audio_classification.py does, step by step: labels on the configuration as text, one input name, no
    `return_tensors`, the trainer's own batches, checkpoints and evaluation.
    """
    repository = save_tiny(model_type, tmp_path / "repository")
    time = np.arange(32000) / 16000
    waves = [0.5 * np.sin(2 * np.pi * (200 * 3 ** (index % 4) + index) * time) for index in range(12)]
    audio = [{"array": wave, "sampling_rate": 16000} for wave in waves]  # of one length: the script drops the mask
    names = datasets.ClassLabel(names=LABELS)
    dataset = datasets.Dataset.from_dict({"audio": audio, "label": [index % 4 for index in range(12)]})
    dataset = dataset.cast_column("label", names)
    extractor = AutoFeatureExtractor.from_pretrained(repository, return_attention_mask=True, trust_remote_code=True)
    name = extractor.model_input_names[0]

    def transform(batch):
        waveforms = [np.asarray(each["array"], np.float32) for each in batch["audio"]]
        inputs = extractor(waveforms, sampling_rate=extractor.sampling_rate)
        return {name: inputs.get(name), "labels": list(batch["label"])}

    dataset.set_transform(transform, output_all_columns=False)
    label2id = {label: str(index) for index, label in enumerate(dataset.features["label"].names)}
    id2label = {index: label for label, index in label2id.items()}
    config = AutoConfig.from_pretrained(
        repository,
        num_labels=len(LABELS),
        label2id=label2id,
        id2label=id2label,
        finetuning_task="audio-classification",
        trust_remote_code=True,
    )
    model = load_by_auto(repository, config=config, ignore_mismatched_sizes=False)
    model.freeze_feature_encoder()
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=str(tmp_path / "trained"),
            remove_unused_columns=False,
            num_train_epochs=25,
            learning_rate=0.05,
            per_device_train_batch_size=6,
            eval_strategy="epoch",
            save_strategy="epoch",
            save_total_limit=1,
            load_best_model_at_end=True,
            metric_for_best_model="accuracy",
            use_cpu=True,
            report_to="none",
        ),
        train_dataset=dataset,
        eval_dataset=dataset,
        compute_metrics=lambda found: {"accuracy": (found.predictions.argmax(1) == found.label_ids).mean()},
        processing_class=extractor,
    )
    trainer.train()
    trainer.save_model()
    assert trainer.evaluate()["eval_accuracy"] > 0.9
    assert load_by_auto(tmp_path / "trained").config.id2label == dict(enumerate(LABELS))
    # A whole repository, with the feature extractor that the trainer has.
    classify = pipeline("audio-classification", model=str(tmp_path / "trained"), trust_remote_code=True, device="cpu")
    found = [classify(each)[0]["label"] for each in audio]
    assert np.mean([label == LABELS[index % 4] for index, label in enumerate(found)]) > 0.9


def test_attention_is_chosen_for_the_backbone_under_it_too(tmp_path):
    folder = save_tiny_classifier("ast-fusion", tmp_path / "a", classifier_layers=[3])
    inputs = MODELS["ast-fusion"].feature_extractor(feature_size=32, max_length=1200)(
        tone(2), sampling_rate=16000, return_tensors="pt"
    )
    eager = load_by_auto(folder, attn_implementation="eager")
    assert len(eager(**inputs, output_attentions=True).attentions) == 4
    with torch.no_grad():
        assert relative_error(eager(**inputs).logits, load_by_auto(folder)(**inputs).logits) < 1e-5
    eager.gradient_checkpointing_enable()
    eager.train()
    eager(**inputs, labels=torch.tensor([1])).loss.backward()
    assert eager.backbone.layers[0].qkv.weight.grad is not None


def test_a_model_of_another_package_may_have_none(model_type):
    assert issubclass(MODELS[model_type].classifier, FusionForAudioClassification)
    assert MODELS[model_type].model.classifier_class is MODELS[model_type].classifier

"""Low-rank adapters on AST with PEFT, as docs/how-to/train.md shows it."""

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import AutoFeatureExtractor, AutoModelForAudioClassification, Trainer, TrainingArguments

from hf_gar.hub.load import find_repository
from tests.conftest import relative_error, save_tiny

LABELS = {0: "low", 1: "high"}


def load(folder, **options):
    return AutoModelForAudioClassification.from_pretrained(folder, trust_remote_code=True, **options)


@pytest.fixture
def repository(tmp_path):
    return save_tiny("ast-fusion", tmp_path / "ast")


@pytest.fixture
def clips(repository):
    """Low and high tones, as the model's inputs with their labels."""
    extractor = AutoFeatureExtractor.from_pretrained(repository, trust_remote_code=True)
    time = np.arange(16000) / 16000
    waves = [0.5 * np.sin(2 * np.pi * (300 + 2000 * (index % 2) + index) * time) for index in range(12)]
    inputs = extractor(waves, sampling_rate=16000)
    return [
        {"input_features": features, "labels": index % 2} for index, features in enumerate(inputs["input_features"])
    ]


def test_adapters_are_trained_saved_loaded_and_merged(repository, clips, tmp_path):
    torch.manual_seed(0)
    base = load(repository, id2label=LABELS, num_labels=2)
    lora = LoraConfig(r=4, lora_alpha=8, target_modules=["qkv"], modules_to_save=["classifier", "classifier_norm"])
    model = get_peft_model(base, lora)
    trainable = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert all("lora_" in name or "classifier" in name for name in trainable)
    assert any("lora_A" in name for name in trainable)
    arguments = TrainingArguments(
        output_dir=str(tmp_path / "trainer"),
        num_train_epochs=20,
        learning_rate=0.01,
        per_device_train_batch_size=6,
        remove_unused_columns=False,
        label_names=["labels"],
        save_strategy="no",
        report_to="none",
        use_cpu=True,
    )
    Trainer(model, arguments, train_dataset=clips).train()
    features = torch.from_numpy(np.stack([clip["input_features"] for clip in clips]))
    labels = torch.tensor([clip["labels"] for clip in clips])
    model.eval()
    with torch.no_grad():
        expected = model(input_features=features).logits
        assert (expected.argmax(1) == labels).all()
        model.save_pretrained(tmp_path / "adapter")
        stored = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
        assert all("lora_" in name or "classifier" in name for name in stored)
        assert any(name.endswith("classifier_norm.running_mean") for name in stored)
        fresh = PeftModel.from_pretrained(load(repository, id2label=LABELS, num_labels=2), tmp_path / "adapter").eval()
        assert relative_error(fresh(input_features=features).logits, expected) < 1e-5
        merged = model.merge_and_unload()
        merged.save_pretrained(tmp_path / "merged")
        alone = load(tmp_path / "merged").eval()
        assert relative_error(alone(input_features=features).logits, expected) < 1e-5
    # The merged model is a repository like any other, but for the feature extractor.
    AutoFeatureExtractor.from_pretrained(repository, trust_remote_code=True).save_pretrained(tmp_path / "merged")
    assert find_repository(tmp_path / "merged").load_classifier().config.id2label == LABELS
    unchanged, changed = (load_file(folder / "model.safetensors") for folder in (repository, tmp_path / "merged"))
    different = {name for name, weight in unchanged.items() if not torch.equal(weight, changed[f"backbone.{name}"])}
    assert different
    assert all(".qkv." in name for name in different)

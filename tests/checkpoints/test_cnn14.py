import pytest
import torch

from hf_gar import Cnn14FusionFeatureExtractor, HfGarError
from hf_gar.checkpoints.cnn14 import FRONT_ENDS, convert_cnn14
from hf_gar.models.log_mel import slaney_mel_filters
from tests.golden import checkpoints

MEL = "logmel_extractor.melW"
STFT = "spectrogram_extractor.stft.conv_real.weight"


@pytest.fixture(scope="module")
def weights():
    """The official file's weights, each shrunk to one value, so that a test writes little."""
    return {
        key: value if key in (MEL, STFT) else value.flatten()[:1]
        for key, value in checkpoints.state_dict("cnn14").items()
    }


def write(tmp_path, weights, name="cnn14.pth"):
    torch.save({"model": weights}, tmp_path / name)
    return tmp_path / name


def real_filters(n_fft):
    return slaney_mel_filters(Cnn14FusionFeatureExtractor(**FRONT_ENDS[n_fft]).front_end)


def test_every_weight_is_accounted_for(weights, tmp_path):
    converted = convert_cnn14(write(tmp_path, weights))
    ours = {key.removeprefix("blocks.") for key in converted.state_dict}
    assert len(ours) == len([key for key in weights if not key.startswith(("spectrogram", "logmel", "fc_audioset"))])
    assert torch.equal(converted.classifier.weight, weights["fc_audioset.weight"])
    assert torch.equal(converted.classifier.bias, weights["fc_audioset.bias"])
    assert torch.equal(converted.state_dict["blocks.2.conv1.weight"], weights["conv_block3.conv1.weight"])
    assert converted.config == {"sampling_rate": 16000, "hop_length": 160}


@pytest.mark.parametrize("n_fft", FRONT_ENDS)
def test_the_front_end_is_the_files_own(weights, tmp_path, n_fft):
    stft = torch.zeros(n_fft // 2 + 1, 1, n_fft)
    converted = convert_cnn14(write(tmp_path, {**weights, STFT: stft, MEL: real_filters(n_fft)}))
    assert converted.feature_extractor == FRONT_ENDS[n_fft]


def test_another_front_end_is_refused(weights, tmp_path):
    other = slaney_mel_filters(Cnn14FusionFeatureExtractor(frequency_min=0.0).front_end)
    with pytest.raises(HfGarError, match=r"other mel filters \(logmel_extractor\.melW\)"):
        convert_cnn14(write(tmp_path, {**weights, MEL: other}))
    with pytest.raises(HfGarError, match="Fourier transform of 256 samples"):
        convert_cnn14(write(tmp_path, {**weights, STFT: torch.zeros(129, 1, 256)}))


def test_missing_and_unexpected_weights_are_named(weights, tmp_path):
    lacking = {key: value for key, value in weights.items() if key != "conv_block4.bn2.running_var"}
    with pytest.raises(HfGarError, match=r"Missing weights: conv_block4\.bn2\.running_var"):
        convert_cnn14(write(tmp_path, lacking))
    with pytest.raises(HfGarError, match=r"Unexpected weights: conv_block7\.conv1\.weight"):
        convert_cnn14(write(tmp_path, {**weights, "conv_block7.conv1.weight": torch.ones(1)}))


@pytest.mark.parametrize("other", ["vggish", "ast"])
def test_a_checkpoint_of_another_model_is_named(tmp_path, other):
    weights = {key: value.flatten()[:1] for key, value in checkpoints.state_dict(other).items()}
    with pytest.raises(HfGarError, match=rf"{other}\.pth is not a checkpoint of CNN14"):
        convert_cnn14(write(tmp_path, weights, f"{other}.pth"))

import zipfile

import pytest
import torch

from hf_gar import HfGarError
from hf_gar.checkpoints.vggish import convert_vggish
from tests.golden import checkpoints


@pytest.fixture(scope="module")
def weights():
    """The official file's weights, each shrunk to one value, so that a test writes little."""
    return {key: value.flatten()[:1].clone() for key, value in checkpoints.state_dict("vggish").items()}


def test_both_layouts(weights, tmp_path):
    torch.save(weights, tmp_path / "tcvrick.pth")
    renamed = {key.replace("fc.", "embeddings."): value for key, value in weights.items()}
    torch.save(renamed, tmp_path / "harritaylor.pth")
    first = convert_vggish(tmp_path / "tcvrick.pth").state_dict
    second = convert_vggish(tmp_path / "harritaylor.pth").state_dict
    assert len(first) == len(weights)
    assert first.keys() == second.keys()
    assert torch.equal(first["convolutions.9.weight"], weights["features.8.weight"])
    assert torch.equal(second["fully_connected.19.bias"], weights["fc.2.bias"])


def test_the_zip_that_was_published(weights, tmp_path):
    torch.save(weights, tmp_path / "pytorch_vggish.pth", _use_new_zipfile_serialization=False)
    with zipfile.ZipFile(tmp_path / "pytorch_vggish.zip", "w") as archive:
        archive.write(tmp_path / "pytorch_vggish.pth", "pytorch_vggish.pth")
    assert len(convert_vggish(tmp_path / "pytorch_vggish.zip").state_dict) == len(weights)
    (tmp_path / "broken.zip").write_bytes((tmp_path / "pytorch_vggish.zip").read_bytes()[:-50])
    with pytest.raises(HfGarError, match=r"broken\.zip cannot be read"):
        convert_vggish(tmp_path / "broken.zip")


def test_missing_weights_and_other_models_are_named(weights, tmp_path):
    torch.save({key: value for key, value in weights.items() if key != "fc.2.bias"}, tmp_path / "a.pth")
    with pytest.raises(HfGarError, match=r"Missing weights: fc\.2\.bias"):
        convert_vggish(tmp_path / "a.pth")
    other = {key: value.flatten()[:1].clone() for key, value in checkpoints.state_dict("cnn14").items()}
    torch.save({"model": other}, tmp_path / "cnn14.pth")
    with pytest.raises(HfGarError, match=r"cnn14\.pth is not a checkpoint"):
        convert_vggish(tmp_path / "cnn14.pth")

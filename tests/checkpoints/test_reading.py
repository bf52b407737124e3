import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from hf_gar import HfGarError
from hf_gar.checkpoints.reading import read_state_dict, rename_weights

WEIGHTS = {"a": torch.ones(2), "b": torch.zeros(3)}


class Malicious:
    """When unpickled, makes a folder."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("new_format", [True, False])
def test_numpy_arrays_beside_the_weights_are_read(tmp_path, new_format):
    path = tmp_path / "a.pth"
    sampler = {"indexes": [np.arange(3), np.zeros(2, bool)], "rate": np.float64(0.5)}
    torch.save({"model": WEIGHTS, "sampler": sampler}, path, _use_new_zipfile_serialization=new_format)
    assert read_state_dict(path, entry="model").keys() == WEIGHTS.keys()


def test_numpys_old_and_new_module_names(tmp_path):
    """A file names the module of NumPy's reconstruction as it was called when the file was written."""
    path = tmp_path / "a.pth"
    torch.save({"model": WEIGHTS, "sampler": np.arange(3)}, path, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    new, old = b"numpy._core.multiarray", b"numpy.core.multiarray"
    assert (new in content) != (old in content)
    swapped = content.replace(new, old) if new in content else content.replace(old, new)
    path.write_bytes(swapped)
    assert read_state_dict(path, entry="model").keys() == WEIGHTS.keys()


def test_safetensors(tmp_path):
    save_file(WEIGHTS, tmp_path / "a.safetensors")
    assert torch.equal(read_state_dict(tmp_path / "a.safetensors")["a"], WEIGHTS["a"])


@pytest.mark.parametrize("new_format", [True, False])
def test_a_malicious_pickle_is_not_run(tmp_path, new_format):
    path, trace = tmp_path / "evil.pth", tmp_path / "trace"
    torch.save({"model": WEIGHTS, "sampler": Malicious(trace)}, path, _use_new_zipfile_serialization=new_format)
    with pytest.raises(HfGarError, match=r"evil\.pth was refused: it would run \w+\.mkdir"):
        read_state_dict(path, entry="model")
    assert not trace.exists()


def test_a_plain_pickle_is_not_run(tmp_path):
    path, trace = tmp_path / "evil.pth", tmp_path / "trace"
    path.write_bytes(pickle.dumps(Malicious(trace)))
    with pytest.raises(HfGarError, match=r"evil\.pth"):
        read_state_dict(path)
    assert not trace.exists()


@pytest.mark.parametrize("name", ["cut.pth", "cut.safetensors", "empty.pth", "text.pth"])
def test_a_damaged_file_is_named(tmp_path, name):
    path = tmp_path / name
    if name.startswith("cut"):
        save = torch.save if name.endswith("pth") else save_file
        save(WEIGHTS, path)
        path.write_bytes(path.read_bytes()[:-20])
    else:
        path.write_text("" if name.startswith("empty") else "not a checkpoint")
    with pytest.raises(HfGarError, match=name):
        read_state_dict(path)


def test_other_mistakes_are_named(tmp_path):
    with pytest.raises(HfGarError, match=r"gone\.pth: there is no such checkpoint file"):
        read_state_dict(tmp_path / "gone.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(HfGarError, match="expected a dictionary of tensors"):
        read_state_dict(tmp_path / "list.pth")
    torch.save({"a": torch.tensor([1.0, float("nan")])}, tmp_path / "nan.pth")
    with pytest.raises(HfGarError, match="the weight a has values that are NaN"):
        read_state_dict(tmp_path / "nan.pth")


def test_renaming_is_strict():
    names = {"a": "ours.a", "b": "ours.b"}
    path = Path("x.pth")
    assert rename_weights({**WEIGHTS, "head.weight": torch.ones(1)}, names, ["head."], path, "Net").keys() == {
        "ours.a",
        "ours.b",
    }
    with pytest.raises(HfGarError, match=r"x\.pth is not a complete checkpoint of Net\. Missing weights: b"):
        rename_weights({"a": torch.ones(2)}, names, [], path, "Net")
    with pytest.raises(HfGarError, match="Unexpected weights: c"):
        rename_weights({**WEIGHTS, "c": torch.ones(1)}, names, [], path, "Net")
    with pytest.raises(HfGarError, match="is not a checkpoint of Net: it has none of its weights"):
        rename_weights({"z": torch.ones(1)}, names, [], path, "Net")

"""Write model repositories with this version of transformers, or read those of another (scripts/compatibility.sh).

python tests/compatibility.py write|read FOLDER
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import torch
from transformers import AutoFeatureExtractor, AutoModel, pipeline

from tests.conftest import TINY, relative_error, save_tiny, tone

EXPECTED = "expected.npy"


def embed(folder: Path) -> np.ndarray:
    """A sound's embedding by the repository's own code, (D,), which its pipeline gives, too."""
    extractor = AutoFeatureExtractor.from_pretrained(folder, trust_remote_code=True)
    model = AutoModel.from_pretrained(folder, trust_remote_code=True)
    with torch.inference_mode():
        embedding = model(**extractor(tone(2), sampling_rate=16000, return_tensors="pt")).pooler_output[0].numpy()
    by_pipeline = pipeline("feature-extraction", model=str(folder), trust_remote_code=True, device="cpu")(tone(2))
    assert relative_error(np.array(by_pipeline), embedding) < 1e-6
    return embedding


def main(action: str, folder: Path) -> None:
    errors = []
    for model_type in sorted(TINY):
        repository = folder / model_type
        if action == "write":
            save_tiny(model_type, repository)
            np.save(repository / EXPECTED, embed(repository))
        else:
            errors.append(relative_error(embed(repository), np.load(repository / EXPECTED)))
    if errors:
        print(f"{len(errors)} models, embeddings differ by at most {max(errors):.1e}")
        sys.exit(max(errors) > 1e-6)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))

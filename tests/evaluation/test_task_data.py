import datasets
import numpy as np
import pytest
import soundfile

from hf_gar import HfGarError
from hf_gar.evaluation.task_data import open_task, rows_of


def audio_dataset(**columns) -> datasets.Dataset:
    count = len(next(iter(columns.values())))
    return datasets.Dataset.from_dict({"audio": [f"{index}.wav" for index in range(count)], **columns})


def test_a_folder_with_a_table(recordings):
    (recordings / "metadata.csv").write_text(
        "file_name,label,fold\nclip0.wav,b,1\nclip1.flac,a,2\nclip2.ogg,b,1\nclip3.mp3,a,2\n"
    )
    data = open_task(recordings, seconds=2)
    assert (data.task.metric, data.task.seconds, data.classes, data.membership_column) == (
        "accuracy",
        2,
        ("a", "b"),
        "fold",
    )
    assert list(data.targets) == [1, 0, 1, 0]
    row = {"audio": str(recordings / "clip1.flac"), "fold": "2", "file_name": "clip1.flac", "label": "a"}
    assert data.dataset[1] == row
    assert list(rows_of(["clip3.mp3", "clip0.wav"], data)) == [3, 0]


def test_labels_are_as_the_table_has_them(recordings):
    table = recordings / "table.csv"
    table.write_text("file_name,label,fold\nclip0.wav,01,1\nclip1.flac,1,2\nclip2.ogg,001,1\nclip3.mp3,None,2\n")
    data = open_task(table)
    assert data.classes == ("001", "01", "1", "None")
    assert list(data.targets) == [1, 2, 0, 3]
    assert list(data.dataset["fold"]) == ["1", "2", "1", "2"]
    table.write_text("file_name,label,fold\nclip0.wav,1,1\nclip1.flac,2,2,3\n")
    with pytest.raises(HfGarError, match="line 3 does not have as many fields as the header: 4, not 3"):
        open_task(table)
    table.write_text("file_name,label,fold\nclip0.wav,1,1\n,2,2\n")
    with pytest.raises(HfGarError, match="Row 1 has no file_name"):
        open_task(table)


def test_an_audiofolder(tmp_path):
    for split in ("train", "validation", "test"):
        for label in ("cat", "dog"):
            folder = tmp_path / split / label
            folder.mkdir(parents=True)
            soundfile.write(folder / f"{split}.wav", np.zeros(1600), 16000)
    expected = [(split, label) for split in ("test", "train", "valid") for label in (0, 1)]
    data = open_task(tmp_path)
    assert data.classes == ("cat", "dog")
    assert sorted(zip(data.dataset["split"], data.targets, strict=True)) == expected
    assert len(set(data.dataset["file_name"])) == 6
    for split in ("train", "validation", "test"):  # the same with tables, which name other recordings alike
        (tmp_path / split / "metadata.csv").write_text("file_name,label\ncat/0.wav,cat\ndog/0.wav,dog\n")
    data = open_task(tmp_path)
    assert sorted(zip(data.dataset["split"], data.targets, strict=True)) == expected
    with pytest.raises(HfGarError, match="no column 'split'"):
        open_task(tmp_path / "train" / "metadata.csv")


def test_a_datasets_own_splits_and_columns():
    label = datasets.ClassLabel(names=["x", "y"])
    features = datasets.Features({"audio": datasets.Value("string"), "category": label})
    split = datasets.Dataset.from_dict({"audio": ["0.wav", "1.wav"], "category": [1, 0]}, features=features)
    data = open_task(datasets.DatasetDict(train=split, dev=split, test=split), label_column="category")
    assert list(data.dataset["split"]) == ["train", "train", "valid", "valid", "test", "test"]
    assert (data.classes, list(data.targets)) == (("x", "y"), [1, 0] * 3)
    # ESC-50 on the Hub: one split, whose rows have folds.
    folds = split.add_column("fold", [1, 2])
    assert open_task(datasets.DatasetDict(train=folds), label_column="category").membership_column == "fold"


def test_several_labels_as_lists_or_with_commas():
    split = ["train", "test"]
    as_lists = open_task(audio_dataset(label=[["b", "a"], ["c"]], split=split))
    with_commas = open_task(audio_dataset(label=["b, a", "c"], split=split), metric="mAP")
    for data in (as_lists, with_commas):
        assert (data.task.metric, data.classes) == ("mAP", ("a", "b", "c"))
        np.testing.assert_array_equal(data.targets, [[True, True, False], [False, False, True]])


def test_labels_with_commas_that_are_not_several_labels():
    dataset = audio_dataset(label=["speech, male", "speech, female"], split=["train", "test"])
    with pytest.raises(HfGarError, match=r"has a comma: 'speech, male'\. Set `metric` to mAP where"):
        open_task(dataset)
    assert open_task(dataset, metric="accuracy").classes == ("speech, female", "speech, male")


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        ({"label": ["a", "b"]}, {}, "no column 'split' .* and none 'fold'"),
        ({"name": ["a", "b"], "fold": [1, 2]}, {}, "no column 'label' with labels, only 'audio', 'name', 'fold'"),
        ({"label": ["a", "b"], "split": ["train", "eval2"]}, {}, "splits 'eval2' are unknown: use train, valid, test"),
        ({"label": ["a", None], "fold": [1, 2]}, {}, "1 recordings have no label, such as row 1"),
        ({"label": ["a", "b"], "fold": [1, None]}, {}, "Row 1 has no fold"),
        ({"label": ["a", "a"], "fold": [1, 2]}, {}, "All recordings have the label 'a'"),
        ({"label": ["a", "b"], "fold": [1, 2], "split": ["train", "test"]}, {}, "the columns 'split' and 'fold'"),
        ({"label": ["a", "b"], "fold": [1, 2]}, {"fold_column": "part"}, "no column 'part'"),
        ({"label": ["a", "b"], "fold": [1, 2]}, {"fold_column": "fold", "split_column": "label"}, "not both"),
        ({"label": ["a", "b"], "fold": [1, 2], "file_name": ["x", "x"]}, {}, "x is listed more than once"),
        ({"label": [["a"], ["b"]], "fold": [1, 2]}, {"metric": "accuracy"}, "the metric is mAP, not accuracy"),
        ({"label": ["a", "b"], "fold": [1, 2]}, {"task": "esc50", "seconds": 3}, "has its own metric and length"),
        (
            {"label": ["a", "b"], "fold": [1, 2]},
            {"task": "esc50"},
            "2000 clips were expected and 2 found; 50 classes were expected and 2 found; 5 folds were expected and 2",
        ),
    ],
)
def test_what_is_no_task(columns, options, message):
    with pytest.raises(HfGarError, match=message):
        open_task(audio_dataset(**columns), **options)


def test_other_counts_are_taken_on_request():
    dataset = audio_dataset(label=["a", "b"], fold=[1, 2])
    assert open_task(dataset, "esc50", allow_other_counts=True).task.seconds == 5.0


@pytest.mark.parametrize(
    ("data", "message"), [("gone", "gone: there is no such file or folder"), ("clip0.wav", "is neither a table")]
)
def test_what_cannot_be_opened(data, message, recordings, monkeypatch):
    monkeypatch.chdir(recordings)
    with pytest.raises(HfGarError, match=message):
        open_task(data)

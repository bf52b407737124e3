"""Tiny downloads in the official layouts."""

import json

import pandas as pd
import pytest

from hf_gar import HfGarError
from hf_gar.cli import main
from hf_gar.evaluation.preparation import READERS, prepare_task
from hf_gar.evaluation.preparation.own_splits import split_groups
from hf_gar.evaluation.task_data import open_task
from hf_gar.evaluation.tasks import TASKS

# For each task: the download's text files, its recordings, and what is expected of them.
LAYOUTS = {
    "esc50": (
        {
            "meta/esc50.csv": "filename,fold,target,category,esc10,src_file,take\n"
            "1-1-A-0.wav,1,0,dog,True,1,A\n2-2-A-1.wav,2,1,rooster,True,2,A\n"
        },
        ["audio/1-1-A-0.wav", "audio/2-2-A-1.wav"],
        [("audio/1-1-A-0.wav", "dog", "1"), ("audio/2-2-A-1.wav", "rooster", "2")],
    ),
    "us8k": (
        {
            "metadata/UrbanSound8K.csv": "slice_file_name,fsID,start,end,salience,fold,classID,class\n"
            "1-3-0-0.wav,1,0.0,0.3,1,5,3,dog_bark\n2-1-0-0.wav,2,0.0,0.3,1,10,1,car_horn\n"
        },
        ["audio/fold5/1-3-0-0.wav", "audio/fold10/2-1-0-0.wav"],
        [("audio/fold5/1-3-0-0.wav", "dog_bark", "5"), ("audio/fold10/2-1-0-0.wav", "car_horn", "10")],
    ),
    "fsd50k": (
        {
            "FSD50K.ground_truth/dev.csv": 'fname,labels,mids,split\n1,"Bark,Dog","/m/1,/m/2",train\n2,Dog,/m/2,val\n',
            "FSD50K.ground_truth/eval.csv": 'fname,labels,mids\n3,"Bark,Dog","/m/1,/m/2"\n',
        },
        ["FSD50K.dev_audio/1.wav", "FSD50K.dev_audio/2.wav", "FSD50K.eval_audio/3.wav"],
        [
            ("FSD50K.dev_audio/1.wav", "Bark,Dog", "train"),
            ("FSD50K.dev_audio/2.wav", "Dog", "valid"),
            ("FSD50K.eval_audio/3.wav", "Bark,Dog", "test"),
        ],
    ),
    "spcv2": (
        {"validation_list.txt": "yes/b.wav\n", "testing_list.txt": "no/c.wav\n"},
        ["yes/a.wav", "yes/b.wav", "no/c.wav", "_background_noise_/hum.wav"],
        [("no/c.wav", "no", "test"), ("yes/a.wav", "yes", "train"), ("yes/b.wav", "yes", "valid")],
    ),
    "vc1": (
        {"iden_split.txt": "1 id10001/x/00001.wav\n2 id10001/y/00001.wav\n3 id10270/z/00002.wav\n"},
        ["dev/wav/id10001/x/00001.wav", "dev/wav/id10001/y/00001.wav", "test/wav/id10270/z/00002.wav"],
        [
            ("dev/wav/id10001/x/00001.wav", "id10001", "train"),
            ("dev/wav/id10001/y/00001.wav", "id10001", "valid"),
            ("test/wav/id10270/z/00002.wav", "id10270", "test"),
        ],
    ),
    "gtzan": (
        {
            "train_filtered.txt": "blues/blues.00029.wav\n",
            "valid_filtered.txt": "rock/rock.00001.wav\n",
            "test_filtered.txt": "rock/rock.00002.wav\n",
        },
        ["genres/blues/blues.00029.au", "genres/rock/rock.00001.au", "genres/rock/rock.00002.wav"],
        [
            ("genres/blues/blues.00029.au", "blues", "train"),
            ("genres/rock/rock.00001.au", "rock", "valid"),
            ("genres/rock/rock.00002.wav", "rock", "test"),
        ],
    ),
}
NSYNTH_FILES = {
    f"nsynth-{split}/examples.json": json.dumps(
        {f"bass_synthetic_0-{pitch}-050": {"instrument_family_str": "bass", "pitch": pitch}}
    )
    for split, pitch in (("train", 33), ("valid", 34), ("test", 35))
}
NSYNTH_AUDIO = [
    f"nsynth-{split}/audio/bass_synthetic_0-{pitch}-050.wav"
    for split, pitch in (("train", 33), ("valid", 34), ("test", 35))
]
SPLITS = ("train", "valid", "test")
LAYOUTS["nsynth"] = (
    NSYNTH_FILES,
    NSYNTH_AUDIO,
    [(path, "bass", split) for path, split in zip(NSYNTH_AUDIO, SPLITS, strict=True)],
)
LAYOUTS["nspitch"] = (
    NSYNTH_FILES,
    NSYNTH_AUDIO,
    [(path, str(33 + index), split) for index, (path, split) in enumerate(zip(NSYNTH_AUDIO, SPLITS, strict=True))],
)
# Without official splits: the recordings, with each one's label and the group that must not be divided.
OWN = {
    "voxforge": {
        f"www.repository.voxforge1.org/downloads/{language}/Trunk/Audio/Main/16kHz_16bit/"
        f"{speaker}-2010{month}01-abc/wav/{language}-0{name}.wav": (language, speaker)
        for language in ("de", "it")
        for speaker in (f"{language}speaker{index}" for index in range(10))
        for month in ("01", "02")
        for name in (1, 2)
    },
    "cremad": {
        f"AudioWAV/{actor}_IEO_{code}_HI.wav": (emotion, str(actor))
        for actor in range(1001, 1021)
        for code, emotion in (("ANG", "anger"), ("SAD", "sad"))
    },
    "surge": {
        f"surge/factory/preset {preset}/{note:03d}.ogg": (str(note), str(preset))
        for preset in range(20)
        for note in (21, 60)
    },
}


def unpack(folder, texts, recordings):
    for name, text in {**texts, **dict.fromkeys(recordings, "")}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_every_task_can_be_prepared():
    assert set(READERS) == set(TASKS) == {*LAYOUTS, *OWN}


@pytest.mark.parametrize("name", LAYOUTS)
def test_official_splits(name, tmp_path):
    texts, recordings, expected = LAYOUTS[name]
    unpack(tmp_path, texts, recordings)
    table = pd.read_csv(prepare_task(name, tmp_path, allow_other_counts=True), dtype=str)
    assert list(table.columns) == ["file_name", "label", "fold" if TASKS[name].folds else "split"]
    assert [tuple(row) for row in table.itertuples(index=False)] == expected


@pytest.mark.parametrize("name", OWN)
def test_own_splits_divide_no_speaker_or_preset(name, tmp_path):
    unpack(tmp_path, {}, OWN[name])
    table = pd.read_csv(prepare_task(name, tmp_path, allow_other_counts=True), dtype=str)
    assert dict(zip(table["file_name"], table["label"], strict=True)) == {
        path: label for path, (label, _) in OWN[name].items()
    }
    table["group"] = [OWN[name][path][1] for path in table["file_name"]]
    splits = table.groupby("group")["split"].agg(["nunique", "first"])
    assert (splits["nunique"] == 1).all()
    assert splits["first"].value_counts().to_dict() == {"train": 14, "test": 4, "valid": 2}


def test_a_split_of_groups_depends_on_nothing_but_their_names():
    names = [f"speaker{index}" for index in range(50)]
    assert split_groups(names) == split_groups(names[::-1] * 2)


def test_another_output_refers_to_the_download_and_opens_as_a_task(tmp_path):
    texts, recordings, _ = LAYOUTS["esc50"]
    unpack(tmp_path / "ESC-50", texts, recordings)
    path = prepare_task("esc50", tmp_path / "ESC-50", tmp_path / "tasks" / "esc50", allow_other_counts=True)
    data = open_task(path.parent, "esc50", allow_other_counts=True)
    assert data.dataset[0]["file_name"] == "../../ESC-50/audio/1-1-A-0.wav"
    assert pd.Series(data.dataset["audio"]).map(lambda name: (tmp_path / name).resolve().is_file()).all()


def test_what_is_not_the_whole_download(tmp_path, capsys):
    with pytest.raises(HfGarError, match=r"has no meta/esc50\.csv: unpack the official download there"):
        prepare_task("esc50", tmp_path)
    with pytest.raises(HfGarError, match="there is no such folder"):
        prepare_task("esc50", tmp_path / "gone")
    with pytest.raises(HfGarError, match="holds no recordings as <preset>"):
        prepare_task("surge", tmp_path)
    texts, recordings, _ = LAYOUTS["esc50"]
    unpack(tmp_path, texts, recordings[:1])
    with pytest.raises(HfGarError, match=r"1 of the 2 recordings of ESC-50 are not in .*, such as audio/2-2-A-1.wav"):
        prepare_task("esc50", tmp_path)
    unpack(tmp_path, texts, recordings)
    assert main(["prepare", "esc50", str(tmp_path)]) == 1
    assert (
        "the whole of ESC-50: 2000 clips were expected and 2 found; 50 classes were expected and 2 found; 5 folds"
        in capsys.readouterr().err
    )
    assert not (tmp_path / "metadata.csv").exists()
    assert main(["prepare", "esc50", str(tmp_path), "--allow-other-counts"]) == 0

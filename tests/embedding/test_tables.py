import datetime
import time
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hf_gar import HfGarError
from hf_gar.embedding.sources.tables import read_table, read_tables, with_audio_column


def read(path: Path, content: str, encoding: str = "utf-8") -> dict[str, list]:
    path.write_bytes(content.encode(encoding))
    return read_table(path).to_pydict()


@pytest.mark.parametrize(
    ("texts", "values"),
    [
        ("1 2 -3 0", [1, 2, -3, 0]),
        ("7 010 10", None),  # a class that is no number makes all of them text
        ("007 010", None),
        ("01 1 001", None),
        ("+1 2", None),
        ("1_000 2", None),
        ("9223372036854775807 1", [9223372036854775807, 1]),
        ("9223372036854775808 1", None),
        ("0.5 3.0 1e-05 0.30000000000000004", [0.5, 3.0, 1e-05, 0.30000000000000004]),  # as Python writes them
        ("0.5 3 -2", [0.5, 3.0, -2.0]),  # as Excel and JavaScript do
        ("2.50 3.00 10.25", [2.5, 3.0, 10.25]),  # in a fixed format
        ("1.10 1.1", None),  # versions
        ("1.0 1", None),
        ("0.1000000000000000055511151231257827 0.2", None),
        ("nan inf", None),
        ("True False", [True, False]),
        ("true false", [True, False]),
        ("TRUE TRUE", [True, True]),
        ("True yes", None),
        ("True FALSE", None),
        ("None NA null", None),
        ("2020-01-01 2021-01-01", None),
    ],
)
def test_only_what_gives_its_text_back_becomes_a_value(tmp_path, texts, values):
    rows = [*texts.split(), ""]
    found = read(tmp_path / "t.csv", "x,y\n" + "".join(f"{text},-\n" for text in rows))["x"]
    expected = [*(texts.split() if values is None else values), None]
    assert found == expected
    assert [type(value) for value in found] == [type(value) for value in expected]


def test_typed_formats_keep_their_types(tmp_path):
    found = read(tmp_path / "t.jsonl", '{"a": "007", "b": 7, "date": "2020-01-01"}\n\n{"b": 7.5, "c": {"d": [1]}}\n')
    assert found == {"a": ["007", None], "b": [7.0, 7.5], "date": ["2020-01-01", None], "c": [None, {"d": [1]}]}
    table = pa.table({"a": pa.array(["007", "7"]).dictionary_encode(), "b": [datetime.date(2020, 1, 1)] * 2})
    pq.write_table(table, tmp_path / "t.parquet")
    assert read_table(tmp_path / "t.parquet").to_pydict()["a"] == ["007", "7"]
    pd.DataFrame({"a": ["7", "8"]}).to_parquet(tmp_path / "p.parquet")
    assert read_table(tmp_path / "p.parquet").to_pydict() == {"a": ["7", "8"]}


def test_a_column_has_one_type_in_all_tables(tmp_path):
    paths = [tmp_path / "1.csv", tmp_path / "2.csv"]
    paths[0].write_text("file_name,label,fold\na.wav,1,1\n")
    paths[1].write_text("file_name,label\nb.wav,x\n")
    first, second = read_tables(paths)
    assert first.to_pydict() == {"file_name": ["a.wav"], "label": ["1"], "fold": [1]}
    assert second.to_pydict() == {"file_name": ["b.wav"], "label": ["x"]}


def test_csv_in_other_shapes(tmp_path):
    path, expected = tmp_path / "t.csv", {"path": ["a.wav", "é.wav"], "n": [1, 2]}
    assert read(path, "path;n\na.wav;1\né.wav;2\n") == expected
    assert read(path, "path\tn\r\na.wav\t1\r\n\r\né.wav\t2\r\n") == expected
    assert read(path, "path,n\na.wav,1\né.wav,2", "utf-8-sig") == expected
    assert read(path, 'path,text\na.wav,"one, two\nthree; ""four"""\n')["text"] == ['one, two\nthree; "four"']
    assert read(path, ",path\n0,a.wav\n") == {"Unnamed: 0": [0], "path": ["a.wav"]}
    assert read(path, "path,x\na.wav,\n") == {"path": ["a.wav"], "x": [None]}


@pytest.mark.parametrize(
    ("name", "content", "encoding", "message"),
    [
        ("t.csv", "path,x\na.wav,1,2\n", "utf-8", "line 2 does not have as many fields as the header: 3, not 2"),
        (
            "t.csv",
            'path,x\n\na.wav,"1\n2"\nb.wav,1,2\n',
            "utf-8",
            "line 5 does not have as many fields as the header: 3, not 2",
        ),
        ("t.csv", "path,x\na.wav,1\nb.wav\n", "utf-8", "line 3 does not have as many fields as the header: 1, not 2"),
        ("t.csv", 'path,x\na.wav,"1\nb.wav,2\n', "utf-8", "line 3: unexpected end of data. Is a double quote missing?"),
        ("t.csv", 'path,x\na.wav,"1\nb.wav,"2\n', "utf-8", "line 3: ',' expected after '\"'. Is a double quote"),
        ("t.csv", "path,x,x\na.wav,1,2\n", "utf-8", "it has several columns 'x'"),
        ("t.csv", "\n", "utf-8", "it is empty"),
        ("t.csv", "path,x\na.wav,1\ncafé.wav,2\n", "latin-1", r"is not UTF-8: .*line 3.*iconv -f LATIN1"),
        ("t.csv", "path,x\na.wav,1\n", "utf-16", "is not UTF-8: .*line 1"),
        ("t.jsonl", '{"path": "a.wav"}\n{"path": \n', "utf-8", "line 2 is not JSON"),
        ("t.jsonl", '{"path": "a.wav"}\n["b.wav"]\n', "utf-8", "line 2 is not a JSON object"),
        ("t.jsonl", '{"path": "caf\xe9.wav"}\n', "latin-1", "is not UTF-8: .*line 1"),
        ("t.jsonl", '{"x": 1}\n{"x": "a"}\n', "utf-8", "t.jsonl cannot be read as a table"),
        ("t.jsonl", f'{{"x": {2**70}}}\n', "utf-8", "t.jsonl cannot be read as a table"),
        ("t.jsonl", '{"x": "\\udce9"}\n', "utf-8", "t.jsonl cannot be read as a table"),
        ("t.jsonl", "", "utf-8", "it is empty"),
    ],
)
def test_what_is_no_table_is_refused_by_its_line(tmp_path, name, content, encoding, message):
    with pytest.raises(HfGarError, match=message) as error:
        read(tmp_path / name, content, encoding)
    assert str(tmp_path / name) in str(error.value)


def test_paths_are_joined_as_pathlib_does():
    paths = [
        "a.wav",
        "./a.wav",
        "a//b.wav",
        "/a/b.wav",
        "../a.wav",
        "a/./b.wav",
        "a/",
        ".a/b..wav",
        "a/...wav",
        "é.wav",
    ]
    for folder in ("", "/", "data/x", "/data"):
        expected = [str(Path(folder) / path) for path in paths]
        # Each alone, since one that is unusual decides how its neighbours are joined.
        for path, one in zip(paths, expected, strict=True):
            table = pa.table({"path": [path]})
            assert with_audio_column(table, "path", Path(folder))["audio"][:] == [one]
        table = pa.table({"path": pa.array([*paths, None, ""], pa.large_string())})
        assert with_audio_column(table, "path", Path(folder))["audio"][:] == [*expected, None, None]


def test_a_table_of_many_rows_is_quick_and_small(tmp_path):
    path, rows = tmp_path / "t.csv", 200_000
    with path.open("w") as file:
        file.write("path,label,fold,start\n")
        file.writelines(f"audio/{row:08d}.wav,class {row % 50},{row % 5},{row / 7}\n" for row in range(rows))
    before, began = pa.total_allocated_bytes(), time.perf_counter()
    dataset = with_audio_column(read_table(path), "path", tmp_path)
    assert (len(dataset), dataset[-1]["start"]) == (rows, (rows - 1) / 7)
    assert time.perf_counter() - began < 20  # about 2 s
    assert pa.total_allocated_bytes() - before < 200 * rows  # bytes

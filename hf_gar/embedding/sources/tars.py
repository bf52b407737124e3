"""WebDataset tar files: each a shard, streamed, so that nothing of them is unpacked onto the disk."""

import json
import logging
import math
import os
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
from datasets.packaged_modules.webdataset.webdataset import DECODERS, base_plus_ext

from hf_gar.embedding.sources.file_names import AUDIO_SUFFIXES, escape
from hf_gar.embedding.sources.tables import AUDIO
from hf_gar.errors import HfGarError

TAR_SUFFIX = ".tar"
TAR_END = bytes(1024)  # two empty blocks
KEY, URL = "__key__", "__url__"
# The columns and their types are those of so many samples, from at most so many tars.
SAMPLES_READ = 1000
TARS_READ = 100
# A recording of a sample: its bytes, or why there are none.
RECORDING = {
    "bytes": datasets.Value("large_binary"),
    "path": datasets.Value("string"),
    "error": datasets.Value("string"),
}

logger = logging.getLogger(__name__)


@dataclass
class Sample:
    """Neighbours in a tar that have the same name up to its first dot.

    Args:
        key: That name.
        names: The members, by what follows the dot: "wav", "json".
        values: What they hold, decoded by that suffix; a recording's bytes.
        problems: Why they hold nothing.
    """

    key: str
    names: dict[str, str] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)

    @property
    def recordings(self) -> list[str]:
        return list(filter(_is_recording, self.names))


def open_tars(paths: Sequence[Path], path_column: str | None) -> tuple[datasets.IterableDataset, str]:
    """Tars as a dataset with a shard for each; and its column with the recordings.

    Whatever is named like a recording is a row. One that cannot be had, or whose sample is damaged, has the reason
    there.

    Args:
        paths: The tars.
        path_column: Of samples with several recordings, the one to take, as it is called after the sample's name.

    Raises:
        HfGarError: A tar is missing, cut short or no tar, or there are no recordings.
    """
    for path in paths:
        _require_whole(path)
    paths = sorted(paths)
    chosen = paths[:: -(-len(paths) // TARS_READ)]
    try:
        samples = [
            sample
            for path in chosen
            for sample in islice(_read_samples(path, with_recordings=False), -(-SAMPLES_READ // len(chosen)))
            if sample.recordings
        ]
    except (OSError, tarfile.TarError) as error:
        raise HfGarError(f"{paths[0]} cannot be read as WebDataset tar files: {error}") from error
    suffixes = sorted({suffix for sample in samples for suffix in sample.recordings})
    if path_column is None and any(len(sample.recordings) > 1 for sample in samples):
        raise HfGarError(
            f"{paths[0]} has {len(suffixes)} recordings in a sample ({', '.join(suffixes)}). Name one (`path_column`)."
        )
    if not suffixes or path_column not in (None, *suffixes):
        raise HfGarError(
            f"{paths[0]} has no recordings {path_column or ''}, only {', '.join(suffixes) or 'other files'}."
        )
    schema = _infer_schema(samples, path_column)
    features = datasets.Features.from_arrow_schema(schema)
    column = path_column or AUDIO
    rows = datasets.IterableDataset.from_generator(
        partial(_read_rows, schema=schema, path_column=path_column),
        features=datasets.Features(
            {column: RECORDING, **features, KEY: datasets.Value("string"), URL: datasets.Value("string")}
        ),
        gen_kwargs={"tars": list(map(str, paths))},
    )
    return rows, column


def _require_whole(path: Path) -> None:
    if not path.is_file():
        raise HfGarError(f"{path}: there is no such file. Check the path.")
    with path.open("rb") as file:  # a tar that is cut between two files would be read without an error
        file.seek(-min(len(TAR_END), path.stat().st_size), os.SEEK_END)
        if file.read() != TAR_END:
            raise HfGarError(f"{path} is cut short: it lacks a tar file's end. Fetch or write it again.")


def _is_recording(suffix: str) -> bool:
    return f".{_last(suffix)}" in AUDIO_SUFFIXES


def _last(suffix: str) -> str:
    return suffix.rpartition(".")[2].lower()


def _read_samples(path: Path | str, with_recordings: bool = True) -> Iterator[Sample]:
    """The samples of a tar, in order; a name that comes again begins another sample."""
    sample = Sample("")
    for member, tar in _read_members(path):
        key, suffix = base_plus_ext(member.name)
        if key is None or (member.isdir() and not _is_recording(suffix)):
            continue
        if key != sample.key or suffix in sample.names:
            if sample.names:
                yield sample
            sample = Sample(key)
        sample.names[suffix] = member.name
        if not member.isfile():
            sample.problems[suffix] = f"{escape(member.name)} is {_kind(member)}"
        elif with_recordings or not _is_recording(suffix):
            file = tar.extractfile(member)
            assert file is not None  # it is for files
            _decode(sample, suffix, file.read())
    if sample.names:
        yield sample


def _decode(sample: Sample, suffix: str, content: bytes) -> None:
    decode = bytes if _is_recording(suffix) else DECODERS.get(_last(suffix), bytes)
    try:
        value = decode(content)
    except Exception as error:  # of any of the libraries that decode
        sample.problems[suffix] = f"{escape(sample.names[suffix])} cannot be read: {escape(str(error))}"
    else:
        sample.values[suffix] = value.tolist() if hasattr(value, "tolist") else value  # an array


def _read_members(path: Path | str) -> Iterator[tuple[tarfile.TarInfo, tarfile.TarFile]]:
    with tarfile.open(path, "r:", encoding="utf-8") as tar:
        while (member := tar.next()) is not None:
            tar.members.clear()  # type: ignore[attr-defined]  # there may be millions
            yield member, tar
        # To tarfile, a damaged header is the end, and so is the end of the first of several joined tars.
        file = tar.fileobj
        assert file is not None
        file.seek(tar.offset)
        while content := file.read(1 << 20):
            if any(content):
                raise tarfile.ReadError(
                    f"{path} is damaged after its byte {tar.offset}, or consists of several tars joined together. "
                    "Fetch or write it again."
                )


def _kind(member: tarfile.TarInfo) -> str:
    if member.issym() or member.islnk():
        return (
            f"a link to {escape(member.linkname)} in the tar, not a file. Write the tar with `tar --dereference "
            "--hard-dereference`."
        )
    return f"a {'folder' if member.isdir() else 'device or pipe'} in the tar, not a file. Leave it out."


def _infer_schema(samples: Sequence[Sample], path_column: str | None) -> pa.Schema:
    """The columns beside the recordings."""
    values: dict[str, list[Any]] = {}
    for sample in samples:
        for suffix in sample.names:
            if suffix != path_column and (path_column or not _is_recording(suffix)):
                values.setdefault(suffix, []).append(sample.values.get(suffix, b"" if _is_recording(suffix) else None))
    kinds = {suffix: _storable(_infer_type(some)) for suffix, some in values.items()}
    return pa.schema([(suffix, kind) for suffix, kind in kinds.items() if kind is not None])


def _infer_type(values: list[Any]) -> pa.DataType:
    """The type that all values have; text, which will be JSON, where they differ."""
    try:
        return pa.array(values).type
    except (ValueError, TypeError, OverflowError):
        return pa.string()


def _storable(kind: pa.DataType) -> pa.DataType | None:
    """A type that Parquet can store: text for what is always null, nothing for a structure without fields."""
    if pa.types.is_null(kind):
        return pa.string()
    if pa.types.is_list(kind):
        inner = _storable(kind.value_type)
        return inner and pa.list_(inner)
    if pa.types.is_struct(kind):
        fields = [(item.name, _storable(item.type)) for item in kind]
        return pa.struct([item for item in fields if item[1] is not None]) if any(t for _, t in fields) else None
    return kind


def _read_rows(tars: list[str], schema: pa.Schema, path_column: str | None) -> Iterator[dict[str, Any]]:
    """The rows of tars: one for each recording, and one for each sample that lacks its own."""
    for tar in tars:
        has_warned = False
        for sample in _read_samples(tar):
            columns, left_out = _convert(sample, schema)
            if left_out and not has_warned:
                has_warned = True
                logger.warning(
                    "%s: %s holds more than the first samples do; what they lack is left out of the results.",
                    *(tar, escape(sample.names[left_out[0]])),
                )
            for recording in _recordings(sample, schema, path_column):
                yield {path_column or AUDIO: recording, **columns, KEY: escape(sample.key), URL: escape(tar)}


def _convert(sample: Sample, schema: pa.Schema) -> tuple[dict[str, Any], list[str]]:
    """A sample's columns beside the recordings, and which of its members they leave something out of.

    What does not fit its column becomes a problem of the sample.
    """
    columns = {name: sample.values.get(name) for name in schema.names}
    left_out = [name for name in sample.values if name not in columns and not _is_recording(name)]
    for name, value in columns.items():
        kind = schema.field(name).type
        text = json.dumps(value) if pa.types.is_string(kind) and not isinstance(value, str | None) else value
        try:
            columns[name] = pa.array([text], kind).to_pylist()[0]
        except (ValueError, TypeError, OverflowError) as error:
            columns[name] = None
            sample.problems[name] = f"{escape(sample.names[name])} is not as in the first samples: {escape(str(error))}"
        else:
            if not _is_kept(text, columns[name]):
                left_out.append(name)
    return columns, left_out


def _is_kept(value: Any, stored: Any) -> bool:
    """Whether a stored value holds all that the value does."""
    if isinstance(value, dict):
        return all(_is_kept(inner, (stored or {}).get(name)) for name, inner in value.items())
    if isinstance(value, list):
        return len(value) == len(stored or []) and all(map(_is_kept, value, stored or []))
    return value == stored or (isinstance(value, float) and math.isnan(value))


def _recordings(sample: Sample, schema: pa.Schema, path_column: str | None) -> Iterator[dict[str, Any]]:
    """A sample's recordings as `RECORDING`: with the reason where there is nothing to embed."""
    taken = [name for name in sample.recordings if path_column in (None, name)]
    problem = next((sample.problems[name] for name in schema.names if name in sample.problems), None)
    if len(taken) > 1:
        problem = f"{escape(sample.key)} has several recordings ({', '.join(taken)}), the first samples one each"
    for name in taken:
        reason = sample.problems.get(name) or problem
        if reason:
            yield _unavailable(reason)
        else:
            yield {"bytes": sample.values[name], "path": escape(sample.names[name]), "error": None}
    if not taken and (sample.recordings or any(name in schema.names for name in sample.names)):
        there = ", ".join(map(escape, sample.names.values()))
        missing = f"recording {path_column}" if path_column else "recording"
        yield _unavailable(f"{escape(sample.key)} has no {missing}, only {there}")


def _unavailable(reason: str) -> dict[str, Any]:
    # Without a path, which would be one of a file outside the tar.
    return {"bytes": None, "path": None, "error": reason}

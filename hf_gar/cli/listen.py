"""`hf-gar listen`: label what a microphone, or another endless source, gives on standard input."""

import argparse
import math
import sys
import wave
from collections.abc import Callable, Iterator
from functools import partial
from io import BufferedReader
from typing import Any

from hf_gar.cli.messages import print_json
from hf_gar.cli.options import add_json_option, add_model_options, chosen_model, number, whole_number
from hf_gar.cli.stopping import Stopped

BLOCK_BYTES = 65_536  # at most; what comes more slowly is taken as it comes
UNKNOWN_SIZE = 0x7FFFF000  # arecord and others that cannot know the length write this or more
LARGEST_SAMPLE = 32_768


def add_command(commands: Any) -> None:
    parser = commands.add_parser(
        "listen",
        help="label a microphone's sound as it comes",
        description="Label audio from standard input as it comes, window by window: arecord -f S16_LE -r 16000 | "
        "hf-gar listen. It takes WAV, or samples without a header, of 16 bits.",
    )
    parser.set_defaults(run=run)
    add_model_options(parser)
    parser.add_argument("--frames", action="store_true", help="print frame embeddings in place of labels, as JSON")
    labels = parser.add_argument_group("labels")
    labels.add_argument(
        "--label", dest="labels", action="append", metavar="LABEL", help="keep only this label; repeat it for several"
    )
    labels.add_argument("--top-k", type=whole_number(1), metavar="N", help="the best N labels of a window (default: 5)")
    labels.add_argument(
        "--threshold",
        type=number(0, maximum=1),
        metavar="SCORE",
        help="only labels with at least this score, from 0 to 1",
    )
    labels.add_argument(
        "--window-s", type=number(0, is_exclusive=True), metavar="SECONDS", help="the length of a window (default: 2)"
    )
    labels.add_argument(
        "--hop-s",
        type=number(0, is_exclusive=True),
        metavar="SECONDS",
        help="from one window to the next (default: half a window)",
    )
    samples = parser.add_argument_group("samples without a header")
    samples.add_argument("--rate", type=whole_number(1), metavar="HZ", help="their rate (default: the model's)")
    samples.add_argument("--channels", type=whole_number(1), default=1, metavar="N", help="(default: 1)")
    add_json_option(parser, "each window as JSON")


def run(options: argparse.Namespace) -> int:
    if options.device and len(options.device) > 1:
        raise ValueError("--device takes a single device here: a stream is not shared.")
    label_options = {name: getattr(options, name) for name in ("labels", "top_k", "threshold", "window_s", "hop_s")}
    if options.frames and any(value is not None for value in label_options.values()):
        raise ValueError("--frames prints embeddings: the options of labels go without it.")

    from hf_gar.classification.streaming import StreamingTagger
    from hf_gar.embedding.streaming import StreamingEmbedder

    rate, blocks = read_samples(sys.stdin.buffer, options.rate, options.channels)  # type: ignore[arg-type]
    listener: Any = (StreamingEmbedder if options.frames else StreamingTagger)(
        chosen_model(options),
        sampling_rate=rate,
        revision=options.revision,
        device=options.device and options.device[0],
        dtype=options.dtype,
        **({} if options.frames else label_options),
    )
    show: Callable[[Any], None] = _print_frames if options.frames else partial(_print_labels, as_json=options.json)
    try:
        for block in blocks:
            show(listener.push(block))
        show(listener.finish())
    except Stopped as stopped:  # the usual end; nothing is left to resume
        return stopped.exit_code
    return 0


def _print_frames(frames: Any) -> None:
    for time, embedding in zip(frames.times.tolist(), frames.embeddings.tolist(), strict=True):
        print_json({"time": time, "embedding": embedding})
    sys.stdout.flush()


def _print_labels(windows: Any, as_json: bool) -> None:
    for window in windows:
        if as_json:
            print_json(window._asdict())
        elif window.predictions:
            labels = "  ".join(f"{each['label']} {each['score']:.2f}" for each in window.predictions)
            print(f"{window.start:8.2f}-{window.stop:.2f} s  {labels}")
    sys.stdout.flush()


def read_samples(stream: BufferedReader, rate: int | None, channels: int) -> tuple[int | None, Iterator[Any]]:
    """The rate of a stream in Hz, as far as it is known, and its samples as they come, (samples,) in [-1, 1].

    Args:
        stream: WAV, or samples without a header, of 16 bits, the least significant byte first.
        rate: In Hz, where there is no header.
        channels: Likewise.

    Raises:
        ValueError: It has samples of another kind.
    """
    num_bytes = math.inf
    if stream.peek(4)[:4] == b"RIFF":
        try:
            header = wave.open(stream, "rb")  # noqa: SIM115 - it is standard input
        except (wave.Error, EOFError) as error:
            raise ValueError(
                f"Standard input is not a WAV file of 16-bit samples: {error}. Use arecord -f S16_LE."
            ) from error
        if header.getsampwidth() != 2:
            raise ValueError(
                f"Standard input has samples of {8 * header.getsampwidth()} bits, expected 16. Use arecord -f S16_LE."
            )
        rate, channels = header.getframerate(), header.getnchannels()
        size = 2 * channels * header.getnframes()
        num_bytes = size if size < UNKNOWN_SIZE else math.inf
    return rate, _blocks(stream, channels, num_bytes)


def _blocks(stream: BufferedReader, channels: int, num_bytes: float) -> Iterator[Any]:
    import numpy as np

    rest = b""
    while num_bytes > 0 and (data := stream.read1(int(min(BLOCK_BYTES, num_bytes)))):
        num_bytes -= len(data)
        data = rest + data
        whole = len(data) - len(data) % (2 * channels)
        rest = data[whole:]
        yield np.frombuffer(data[:whole], "<i2").reshape(-1, channels).mean(axis=1, dtype=np.float32) / LARGEST_SAMPLE

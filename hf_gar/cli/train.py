"""`hf-gar train`: a classifier of your own, as a model repository."""

import argparse
import shlex
from typing import Any

from hf_gar.cli.options import (
    add_layer_options,
    add_model_options,
    add_seeds_option,
    add_task_options,
    chosen_model,
    embedding_options,
    layer_choice,
    number,
    open_task_of,
    whole_number,
)

REJECTED = 0.05


def add_command(commands: Any) -> None:
    parser = commands.add_parser("train", help="train a classifier on labelled recordings, as a model repository")
    parser.set_defaults(run=run)
    add_task_options(parser)
    parser.add_argument("--test-fold", metavar="FOLD", help="test this fold alone (default: each in turn)")
    parser.add_argument("--search", action="store_true", help="choose layers and learning rate on validation clips")
    parser.add_argument(
        "--reject",
        type=share,
        nargs="?",
        const=REJECTED,
        metavar="SHARE",
        help=f"call a sound unknown if it is less certain than this share of validation clips (default: {REJECTED})",
    )
    parser.add_argument("--fine-tune", action="store_true", help="train the whole network after the linear layer")
    parser.add_argument("--epochs", type=whole_number(1), metavar="N", help="maximum of a fine-tuning (default: 20)")
    parser.add_argument(
        "--fine-tune-lr",
        type=number(0, is_exclusive=True),
        metavar="RATE",
        help="learning rate of a fine-tuning (default: by the network's size)",
    )
    add_seeds_option(parser)
    add_model_options(parser)
    add_layer_options(parser)


def share(text: str) -> float:
    """The type of `--reject`: a number from 0 to below 1."""
    value = number(0)(text)
    if value >= 1:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to below 1, not {text!r}")
    return value


def run(options: argparse.Namespace) -> int:
    if options.search and (options.fusion_layers is not None or options.unfused):
        raise ValueError("--search chooses the layers itself: leave --fusion-layers and --unfused out.")
    if not options.fine_tune and (options.epochs is not None or options.fine_tune_lr is not None):
        raise ValueError("--epochs and --fine-tune-lr go with --fine-tune.")

    from hf_gar.hub.load import find_repository
    from hf_gar.training.run import train_classifier

    model_kwargs = layer_choice(options)
    if options.max_length is not None:
        model_kwargs["max_length"] = options.max_length
    record = train_classifier(
        find_repository(chosen_model(options), options.revision),
        open_task_of(options, needs_splits=False),
        options.output,
        model_kwargs=model_kwargs,
        learning_rate=options.learning_rate,
        search=options.search,
        test_fold=options.test_fold,
        reject=options.reject,
        fine_tuning=_fine_tuning(options),
        seeds=options.seeds,
        embedding=embedding_options(options),
    )
    print(_summary(record))
    folder = shlex.quote(options.output)
    print(f"{options.output} is a complete model repository with a classifier of {len(record.labels)} labels.")
    print(f"Next: hf-gar push {folder} --repo-id ORG/NAME")
    return 0


def _fine_tuning(options: argparse.Namespace) -> Any:
    """How the network is fine-tuned; None where it is not."""
    if not options.fine_tune:
        return None
    from hf_gar.training.fine_tuning import FineTuning

    given = {"epochs": options.epochs, "learning_rate": options.fine_tune_lr}
    return FineTuning(**{name: value for name, value in given.items() if value is not None})


def _summary(record: Any) -> str:
    """The scores, in percent, and what rejection and fine-tuning did."""
    lines = [f"test {record.metric} {_percent(record.test)}, validation {100 * record.valid:.2f} %"]
    lines += [f"layers {' + '.join(map(str, record.layers))}, learning rate {record.learning_rate:g}"]
    if record.folds:
        lines += [f"tested with {record.folds} folds, each by classifiers of the others; the one here is of all folds"]
    rejection, tuning = record.rejection, record.fine_tuning
    if rejection is not None:
        lines += [
            f"labelled unknown below a probability of {rejection.threshold:.3f}: {_percent(rejection.rejected)} of the "
            "test clips"
        ]
    if rejection is not None and rejection.unknown_rejected is not None:
        lines += [
            f"and {_percent(rejection.unknown_rejected)} of those of labels that were left out of the training, "
            f"{rejection.labels_left_out} in turn"
        ]
    if tuning is not None and tuning.best_epoch:
        lines += [
            f"epoch {tuning.best_epoch} of {tuning.epochs} of the fine-tuning; the linear layer alone "
            f"{_percent(tuning.linear)}, gained {_points(tuning.gain)}"
        ]
    elif tuning is not None:
        lines += [f"none of the {tuning.epochs} epochs of the fine-tuning validated better than the linear layer alone"]
    return "\n".join(lines)


def _percent(score: Any) -> str:
    interval = "" if score.low is None else f" (95 % interval {100 * score.low:.2f} to {100 * score.high:.2f})"
    return f"{100 * score.value:.2f} %{interval}"


def _points(score: Any) -> str:
    return f"{100 * score.value:+.2f} points (95 % interval {100 * score.low:+.2f} to {100 * score.high:+.2f})"

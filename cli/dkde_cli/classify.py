"""``dkde classify``: rows by one density for each class."""

from functools import partial
from typing import Any

import click

from dkde_cli.group import Command
from dkde_cli.options import SELECTOR_HELP, Where, density_options, where_options
from dkde_cli.runs import Output, carry_out, output_options
from dkde_cli.sides import Training, training_options
from dkde_cli.values import parse_bandwidths, parse_priors


@click.command(cls=Command, epilog=SELECTOR_HELP)
@training_options
@click.option(
    "--query",
    metavar="SELECTOR",
    help="The rows to be classified; by default DATA's split test.",
)
@click.option(
    "--by",
    required=True,
    metavar="NAME",
    help="The class of each training row: any column, variable or label beside the features. If "
    "the query has it, too, the classes found are compared with it.",
)
@click.option(
    "--bandwidth",
    metavar="H",
    help="One bandwidth; several, 0.1,0.2 or logspace:-1:1:20, which take one pass; or a rule for "
    "each class: scott, silverman, isj. By default 16 around the scale of the data. Of several, "
    "the best has the least log-loss of training rows, each scored without itself.",
)
@click.option(
    "--valid",
    metavar="SELECTOR",
    help="Rows that choose among several bandwidths, in place of the training rows.",
)
@click.option(
    "--priors",
    metavar="CLASS=P,...",
    help="The probability of each class before a row is seen, T=0.7,B=0.3; by default the shares "
    "of the training rows, or of their weight.",
)
@click.option(
    "--common-bandwidth",
    is_flag=True,
    help="Apply a rule, and a covariance of the rows, to all training rows together, and not to "
    "each class.",
)
@density_options()
@output_options(
    plot=click.option(
        "--plot",
        metavar="FILE",
        help="Draw true against predicted classes, and a calibration curve, into this .png, .svg "
        "or .pdf file.",
    )
)
@where_options
def classify(
    training: Training,
    query: str | None,
    by: str,
    bandwidth: str | None,
    valid: str | None,
    priors: str | None,
    common_bandwidth: bool,
    density: dict[str, Any],
    output: Output,
    where: Where,
) -> None:
    """Classify rows by one density for each class.

    The log-probability of each class at each row goes to --output. Where the classes of the query
    are known, accuracy, log-loss, Brier score, the confusion of classes and the calibration of the
    probabilities are printed.

    \b
    The JSON is
      {"best_bandwidth": b, "seconds": s, "classes": [...], "rows": [row, ...],
       "confusion": [[n, ...], ...], "calibration": [bin, ...]}
    where a row is
      {"bandwidth", "n", "n_known", "accuracy", "log_loss", "brier",
       "calibration_error", "choice_log_loss"}
    and a bin {"rows", "confidence", "accuracy"}, both at the best bandwidth; null for numbers that
    are not finite. Keys are absent where no class is known, or there is one bandwidth.
    """
    import dkde

    output = output.checked(training.data)
    query = training.split("test", query)
    call = partial(
        dkde.classify,
        query,
        training.selector,
        parse_bandwidths(bandwidth, "--bandwidth"),
        by=by,
        valid=valid,
        priors=parse_priors(priors),
        common_bandwidth=common_bandwidth,
        source=training.catalog,
        **training.choice,
        weights=training.weights,
        **density,
    )
    carry_out(call, output, where, query, "score", "choice")

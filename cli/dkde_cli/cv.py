"""``dkde cv``: the best bandwidth by cross-validation."""

from functools import partial
from typing import Any

import click

from dkde_cli.group import Command
from dkde_cli.options import (
    SELECTOR_HELP,
    Where,
    bandwidths_option,
    density_options,
    pca_option,
    seed_option,
    where_options,
)
from dkde_cli.runs import Output, carry_out, output_options
from dkde_cli.sides import Training, training_options
from dkde_cli.values import parse_bandwidths

_LEAVE_ONE_OUT = "loo"
_BY = "by:"


@click.command(cls=Command, epilog=SELECTOR_HELP)
@training_options
@click.option(
    "--folds",
    default="5",
    metavar="N",
    help="Number of folds. A fold is a range of rows that are scored under the rows of all other "
    "folds; loo leaves out one row at a time, and by:NAME all rows with one value of a column.",
)
@click.option("--shuffle", is_flag=True, help="Put rows into folds at random.")
@seed_option("Shuffle the same way each time.")
@click.option(
    "--refine",
    is_flag=True,
    help="Continue from the grid's best bandwidth to the continuous optimum near it, which takes "
    "a few more passes.",
)
@click.option(
    "--per-feature",
    is_flag=True,
    help="Find a bandwidth for each feature, too, along one after the other: from the best common "
    "factor of their standard deviations, or of --covariance, on the grid of --bandwidths. Each "
    "step is a pass over the pairs.",
)
@click.option(
    "--criterion",
    type=click.Choice(["likelihood", "least_squares"]),
    default="likelihood",
    show_default=True,
    help="What the best bandwidth is chosen by: the likelihood of held-out rows, or the estimated "
    "integrated squared error of the density, which a few far rows hardly change. The second takes "
    "about twice as long.",
)
@bandwidths_option
@pca_option
@density_options()
@output_options(
    plot=click.option(
        "--plot", metavar="FILE", help="Draw the curve into this .png, .svg or .pdf file."
    )
)
@where_options
def cv(
    training: Training,
    folds: str,
    shuffle: bool,
    seed: int | None,
    refine: bool,
    per_feature: bool,
    criterion: str,
    bandwidths: str | None,
    pca: int | None,
    density: dict[str, Any],
    output: Output,
    where: Where,
) -> None:
    """Find the best bandwidth by cross-validation.

    Each row is scored under the rows of the other folds, all folds and all bandwidths in one
    pass. The fold total, in nats, is the mean over folds of each one's sum, which is what
    scikit-learn's cross-validation reports.

    \b
    The JSON is
      {"best_bandwidth": b, "seconds": s, "folds": N or "loo", "rows": [row, ...]}
    where a row is
      {"bandwidth", "n", "mean_log_likelihood", "standard_error",
       "bits_per_dimension", "n_zero_density", "mean_fold_log_likelihood"}
    with null for numbers that are not finite; on the sphere with "bandwidth_unit", "km" or
    "radian". With --refine the last row is the optimum, unless the grid has it. With
    --per-feature also "features", the bandwidths by name, on the sphere in the unit of
    --covariance, and "features_mean", the mean log-likelihood there. In the CSV, split is the
    selector of --train.
    """
    import dkde

    n_folds = _parse_folds(folds, shuffle, seed)
    output = output.checked(training.data)
    grid = parse_bandwidths(bandwidths)
    train = training.selector
    call = partial(
        dkde.cross_validate,
        train,
        grid,
        folds=n_folds,
        shuffle=shuffle,
        random_state=seed,
        refine=refine,
        per_feature=per_feature,
        criterion=criterion,
        pca=pca,
        source=training.catalog,
        **training.choice,
        weights=training.weights,
        bandwidth_scale=training.bandwidth_scale,
        **density,
    )
    carry_out(call, output, where, train, "grid", "features" if per_feature else "refining")


def _parse_folds(text: str, shuffle: bool, seed: int | None) -> int | str:
    """Return the number of folds, the word for leaving one row out, or the name of a column."""
    if seed is not None and not shuffle:
        raise click.UsageError("--seed needs --shuffle")
    if text == _LEAVE_ONE_OUT:
        # Each row is a fold, in whatever order.
        if shuffle:
            raise click.UsageError("--shuffle changes nothing where --folds is loo; leave it out")
        return text
    if text.startswith(_BY):
        if shuffle:
            raise click.UsageError("--shuffle is for a number of folds; leave it out")
        # A column named "loo" would be taken for the word.
        if text in (_BY, _BY + _LEAVE_ONE_OUT):
            raise click.UsageError(f"--folds is {text!r}; name a column, such as by:animal")
        return text.removeprefix(_BY)
    if not text.isdecimal() or int(text) < 2:
        raise click.UsageError(
            f"--folds is {text!r}; it must be a number of at least 2, loo, or by:NAME"
        )
    return int(text)

"""Options of the commands that use a trained model."""

from __future__ import annotations

from typing import Annotated

import typer

from imbtune.limits import SEED

ModelArgument = Annotated[
    str,
    typer.Argument(metavar="MODEL", help="Folder of the model, which imbtune train wrote."),
]
ModelSeedOption = Annotated[
    int | None,
    typer.Option("--seed", min=0, max=SEED, help="Of several seeds. Default: the first one."),
]
UseEnsembleOption = Annotated[
    bool, typer.Option("--ensemble", help="Use all seeds of the folder as one model.")
]
PriorOption = Annotated[
    str | None,
    typer.Option(
        metavar="SHARES",
        help="Class mix where the model is used: cat=90,dog=10 (shares or counts), balanced, or a "
        "JSON, YAML or CSV file. Default: the probabilities as the loss trained them, for no "
        "given mix.",
    ),
]
OwnMetricOption = Annotated[
    list[str] | None,
    typer.Option(
        callback=lambda given: given or None,
        help="Other knobs of a metric, e.g. '{name: recall_at_precision, precision: 0.95, of: "
        "fraud}'. May be repeated, for other metrics. Default: those that the search maximised, "
        "else the defaults.",
    ),
]
OwnThresholdOption = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=1,
        metavar="PROBABILITY",
        help="Two classes: from which probability on an image is of the positive class. Default: "
        "the model's own (imbtune threshold), else 0.5.",
    ),
]
ResizeOption = Annotated[
    bool,
    typer.Option(
        "--resize",
        help="Scale and centre-crop images of another size, also where the training did not.",
    ),
]
LabelledDataOption = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar="PATH",
        help="Folder or .npz file of labelled images, in any layout that a search takes. Default: "
        "$IMBTUNE_DATA; if that is not set, where the training found its images.",
        show_default=False,
    ),
]
KeptDataOption = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar="PATH",
        help="Folder or .npz file of labelled images, in any layout that a search takes. Default: "
        "the images that imbtune train --calibrate kept.",
        show_default=False,
    ),
]
ComparedDataOption = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar="IMAGES",
        help="Images for the comparison, with or without labels: a folder, a .npz file, Parquet or "
        "an image. Default: the test images in $IMBTUNE_DATA, else where the training found them.",
        show_default=False,
    ),
]
LayoutOption = Annotated[
    str | None,
    typer.Option(
        "--dataset",
        metavar="NAME",
        help="The data set whose layout --data has, e.g. folder, parquet or npz. Default: the "
        "model's own, or the layout that is found.",
    ),
]

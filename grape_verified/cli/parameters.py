"""What several commands take, and what `check` takes, each with its help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from grape_verified.conformance import CONTRACTS
from grape_verified.conformance.profiles import PROFILES

#: The ledger that `verify` writes, and that `list` and `show` read.
LEDGER = Path("grape-verified-ledger.json")

Names = Annotated[
    list[str] | None,
    typer.Argument(metavar="ID", help="Claim ids, or families such as ppo. Default: everything."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON only.")]
LedgerPath = Annotated[Path, typer.Option("--ledger", metavar="FILE", help="The ledger file.")]
From = Annotated[
    list[str] | None,
    typer.Option(
        "--from",
        metavar="MODULE",
        help="Load a module of claims and contracts; repeatable. Without names, only its own are used.",
    ),
]
FromOf = Annotated[
    list[str] | None,
    typer.Option("--from", metavar="MODULE", help="Load a module of claims and contracts too; repeatable."),
]
Id = Annotated[str, typer.Argument(metavar="ID", help="Id of a claim or definition, such as ppo.clip.gradient.")]
IdOrContract = Annotated[
    str, typer.Argument(metavar="ID", help="Id of a claim or definition, such as ppo.clip.gradient, or a contract.")
]
Bind = Annotated[
    list[str] | None,
    typer.Option(metavar="PARAMETER=NAME", help="Say which tensor or option a parameter is; repeatable."),
]
CheckTarget = Annotated[str | None, typer.Argument(metavar="MODULE:FUNCTION", help="The function to check.")]
As = Annotated[
    str | None, typer.Option("--as", metavar="CONTRACT", help=f"Contract to check against: {', '.join(CONTRACTS)}.")
]
Trainer = Annotated[
    str | None, typer.Option(metavar="TRAINER", help=f"Check the functions of a trainer: {', '.join(PROFILES)}.")
]
Fixed = Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="Fix an option's value; repeatable.")]
Judged = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=VALUE",
        help="Judge with a habit, such as log_ratio_clamp=20; repeatable. `show CONTRACT` lists them.",
    ),
]
Strict = Annotated[
    bool,
    typer.Option("--strict", help="Notes are failures. Also require fp64 precision in fp64, and no overflow."),
]
IdentifyTarget = Annotated[str, typer.Argument(metavar="MODULE:FUNCTION", help="The function to identify.")]
Among = Annotated[str, typer.Option(metavar="NAME,…", help="Only these contracts or families, such as ppo,grpo.")]
Examples = Annotated[int, typer.Option(min=1, metavar="N", help="Inputs per property; twice as many for options.")]

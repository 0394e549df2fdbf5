"""``mmfed-client check``: everything that could go wrong, before it does."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from mmfed_client.cli.arguments import DEFAULT_HOME, Home
from mmfed_common.command_line.output import AsJson, print_json, progress_bar, stdout

StudyFile = Annotated[
    Path | None,
    typer.Option(
        "--study",
        metavar="FILE",
        exists=True,
        dir_okay=False,
        help="Check against this study (study.toml or a signed study) instead of the approved one.",
    ),
]
Page = Annotated[
    Path | None, typer.Option("--html", metavar="FILE", help="Also write the report as a page for the file.")
]
Only = Annotated[
    list[str] | None,
    typer.Option("--only", metavar="ITEM", help="Check this item alone; may be given several times."),
]
Seconds = Annotated[
    float, typer.Option("--seconds", min=1.0, help="Time for everything; what is not done by then is named.")
]


def check(
    home: Home = DEFAULT_HOME,
    study: StudyFile = None,
    html: Page = None,
    only: Only = None,
    seconds: Seconds = 55.0,
    as_json: AsJson = False,
) -> None:
    """Find everything that could keep this site from taking part, in less than a minute.

    One line an item: the machine and its software, the home and its key, the way to the server (proxy,
    certificate, clock), the study, the policy, the cohort with every fault, and one real training step on the
    device that would train. The server gets two requests, as from a running node; nothing about patients
    leaves the site.

    Exit code 0 if nothing keeps the site from taking part (warnings are shown), otherwise the family of the
    first fault's code: 1 machine, 2 data, 3 privacy and policy, 4 network and trust, 5 study, 6 model.

    Examples:

        mmfed-client check

        mmfed-client check --home /srv/mmfed --html check.html

        mmfed-client check --only clock --only "server's certificate"
    """
    from mmfed_client.home import SiteHome
    from mmfed_client.preflight import NAMES, Subject, all_findings, check_site, exit_code
    from mmfed_client.preflight.report import as_record, as_table, verdict, write_page

    unknown = [name for name in only or () if name not in NAMES]
    if unknown:
        raise typer.BadParameter(
            f"no item {unknown[0]!r}; the items are: {', '.join(NAMES)}", param_hint="--only"
        )
    subject = Subject(SiteHome(home), study)
    began = time.monotonic()
    with progress_bar() as bar:
        task = bar.add_task("checking", total=len(only or NAMES))
        outcomes = check_site(
            subject,
            only or (),
            seconds,
            report=lambda name: bar.update(task, advance=1, description=name),
        )
    findings = all_findings(outcomes)
    record = as_record(findings, subject.site, time.monotonic() - began, subject.now())
    if html is not None:
        write_page(record, html)
    if as_json:
        print_json(record)
    else:
        console = stdout()
        console.print(as_table(findings))
        console.print(f"\n{verdict(findings)} ({record['seconds']:.1f} s)", highlight=False)
    if exit_code(findings):
        raise typer.Exit(exit_code(findings))

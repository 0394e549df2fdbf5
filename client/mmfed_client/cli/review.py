"""``mmfed-client review``: what would run here."""

from __future__ import annotations

from mmfed_client.cli.arguments import DEFAULT_HOME, Home, home_at, key_passphrase
from mmfed_client.cli.choice import StudyChoice, chosen_study, review_of
from mmfed_common.command_line.output import AsJson, print_json, stdout


def review(study: StudyChoice = "", home: Home = DEFAULT_HOME, as_json: AsJson = False) -> None:
    """Read in plain words what a study would do here, and how it differs from what was approved last.

    Signature, dates and federation are checked first; then the site's policy.
    Nothing is approved and nothing runs.
    Exit code 0 if the study could be approved, 3 if the policy refuses it.

    Examples:

        mmfed-client review
        mmfed-client review study.signed.json
        mmfed-client review 3f9a01 --json
    """
    import typer

    place = home_at(home)
    passphrase = None if study else key_passphrase(place)
    found = review_of(place, chosen_study(place, study, passphrase))
    if as_json:
        print_json(found.as_dict())
    else:
        stdout().print(found.renderable())
    if found.violations:
        raise typer.Exit(3)

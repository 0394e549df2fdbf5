"""``mmfed-client approve``: yes to one document, by name."""

from __future__ import annotations

from mmfed_client.cli.arguments import (
    DEFAULT_HOME,
    Home,
    Person,
    Yes,
    confirm,
    home_at,
    key_passphrase,
    person_or_account,
)
from mmfed_client.cli.choice import StudyChoice, chosen_study, review_of
from mmfed_common.command_line.output import AsJson, print_json, stdout


def approve(
    study: StudyChoice = "",
    home: Home = DEFAULT_HOME,
    by: Person = "",
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Approve one study: exactly this document, by its hash, in your name.

    Shows the review and asks. Who approved and when stands in the ledger.
    With `two_person = true` in policy.toml, a second person must approve with another name.
    A running site begins by itself.

    Examples:

        mmfed-client approve
        mmfed-client approve --by "Dr. Ada Okafor" --yes
        mmfed-client approve 3f9a01 --by "Second Reader"
    """
    from mmfed_client.approval import approve as record
    from mmfed_client.approval import state_of
    from mmfed_client.ledger import Ledger

    place = home_at(home)
    signed = chosen_study(place, study, None if study else key_passphrase(place))
    found = review_of(place, signed)
    if not as_json:
        stdout().print(found.renderable())
    ledger, person = Ledger(place.ledger_file), person_or_account(by)
    if not found.violations:
        confirm(f"Approve {found.study.study.name} as {person}?", yes or as_json)
    entry = record(place, ledger, signed, person)
    state = state_of(ledger, found.study.hash)
    if as_json:
        print_json(
            {
                "study": found.study.hash,
                "person": person,
                "entry": entry.number,
                "people": list(state.people),
                "needed": state.needed,
                "complete": state.complete,
            }
        )
        return
    console = stdout()
    console.print(f"Approved by {', '.join(state.people)}: ledger entry {entry.number}.", markup=False)
    if not state.complete:
        console.print(f"{state.needed} people must approve; nothing runs before.", markup=False)
    else:
        console.print("next: mmfed-client start, unless it runs already", markup=False)

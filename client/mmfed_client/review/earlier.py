"""What left a site before, where it tells more together with what a study asks for."""

from __future__ import annotations

from collections.abc import Iterator

from mmfed_client.budget import called, names_of
from mmfed_client.ledger import Ledger
from mmfed_common.study import Study


def earlier_sums(ledger: Ledger, study: Study) -> Iterator[str]:
    """A sentence where sums of features left for another study and this one asks for some, all without noise.

    Raises
    ------
    PrivacyError
        ``MMF-310`` to ``MMF-312`` when the ledger cannot be believed or read.
    """
    if study.contract.normalisation != "federated" or study.privacy.mode == "dp":
        return
    names = names_of(ledger)
    others = [other for other in ledger.unpaid_sums() if other != study.hash]
    if others:
        listed = ", ".join(called(other, names) for other in others)
        yield (
            f"Sums of features left before, for {listed}. Whoever has both can subtract them: what remains "
            "is about the patients that are in one of them only, of a single patient the very values. See "
            'to it that those are many, or ask for `normalisation = "reference"`.'
        )

"""What the server knows of the sites of one masked round, and how it opens the sum of those that are left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mmfed_common.errors import NetworkError
from mmfed_common.masking.keys import (
    PeerKeys,
    Session,
    adds_mask,
    agree,
    commitment_of,
    mask_seed,
    public_of,
    round_digest,
    set_digest,
)
from mmfed_common.masking.rules import threshold_of
from mmfed_common.masking.shamir import recover
from mmfed_common.masking.stream import AddsMasks, Mask, Vector, add_masks


@dataclass
class Parties:
    """The sites of a round, phase by phase.

    Attributes
    ----------
    session
        The attempt at the round.
    peers
        Those that showed keys, by name; sorted.
    threshold
        How many must be left for the sum to be opened.
    sealed
        Site → what it sealed for each of ``peers``, in their order; those without it have dropped out.
    alive
        Those whose masked updates were added.
    shares
        Site → its shares of all that sealed, in the order of names.
    """

    session: Session
    peers: dict[str, PeerKeys]
    threshold: int
    sealed: dict[str, list[bytes]] = field(default_factory=dict)
    alive: set[str] = field(default_factory=set)
    shares: dict[str, list[bytes]] = field(default_factory=dict)

    @staticmethod
    def of(session: Session, peers: Sequence[PeerKeys], share: float) -> Parties:
        """Begin with those that showed keys."""
        named = {peer.site: peer for peer in sorted(peers, key=lambda peer: peer.site)}
        return Parties(session, named, threshold_of(share, len(named)))

    @property
    def senders(self) -> list[str]:
        """Those whose masks are in the masked updates, sorted."""
        return sorted(self.sealed)

    @property
    def masked(self) -> Session:
        """The attempt as it goes into the masks: between sites that see the same round and senders."""
        seen = self.session.seen_alike(round_digest(list(self.peers.values()), self.threshold))
        return seen.seen_alike(set_digest(self.senders))

    @property
    def gone(self) -> list[str]:
        """Senders of which no masked update came, sorted."""
        return sorted(set(self.sealed) - self.alive)

    def sealed_for(self, site: str) -> list[bytes]:
        """What each sender sealed for a site, in the order of :attr:`senders`."""
        place = list(self.peers).index(site)
        return [self.sealed[sender][place] for sender in self.senders]

    def unmask(self, total: Vector, add: AddsMasks = add_masks) -> dict[str, set[str]]:
        """Take the masks that are left off the sum of the masked vectors, in place.

        Parameters
        ----------
        add
            How masks are added to this kind of vector.

        Returns
        -------
        wrong
            Site → those of whom its shares were wrong, where the others' were enough. Who gave shares that
            are wrong of one or two may have been dealt them.

        Raises
        ------
        NetworkError
            ``MMF-390`` with the site of which too few right shares came; the sum is then not opened.
        """
        wrong: dict[str, set[str]] = {}
        secrets = {name: self._secret(name, wrong) for name in self.senders}
        add(total, [Mask(secrets[name], negative=True) for name in self.senders if name in self.alive])
        for name in self.gone:
            add(total, self._masks_with(name, secrets[name]))
        return wrong

    def _masks_with(self, name: str, secret: bytes) -> list[Mask]:
        """The masks with a site that is gone that are left in the others' sum, each to be taken back."""
        masked, masks = self.masked, []
        others = sorted(self.alive)
        for other, agreed in zip(others, agree(secret, [self.peers[o].masking for o in others]), strict=True):
            seed = mask_seed(masked, agreed, name, other)
            masks.append(Mask(seed, negative=adds_mask(other, name)))
        return masks

    def _secret(self, name: str, wrong: dict[str, set[str]]) -> bytes:
        """The seed of a site that is alive, or the masking key of one that is gone; never both."""
        points = {site: number for number, site in enumerate(self.peers, start=1)}
        place = self.senders.index(name)
        given = {points[site]: shares[place] for site, shares in self.shares.items() if shares[place]}
        peer, alive = self.peers[name], name in self.alive

        def is_right(secret: bytes) -> bool:
            return commitment_of(secret) == peer.commitment if alive else public_of(secret) == peer.masking

        found = recover(given, self.threshold, is_right, {points[site] for site in wrong})
        if found is None:
            what = f"{len(given)} of {self.threshold} shares, or some are wrong"
            raise NetworkError("MMF-390", what, name)
        by_point = {number: site for site, number in points.items()}
        for point in found.wrong:
            wrong.setdefault(by_point[point], set()).add(name)
        return found.secret


def tags_for(reader: str, readers: Sequence[str], given: Mapping[str, Sequence[bytes]]) -> list[bytes]:
    """What each site gave for one of them, in the order of ``given``.

    Parameters
    ----------
    readers
        The order of every site's tags.
    """
    place = list(readers).index(reader)
    return [tags[place] for tags in given.values()]

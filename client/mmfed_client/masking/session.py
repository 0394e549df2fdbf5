"""One masked round at one site, step by step; every step is taken once and in order.

What the site refuses here is what makes the coordinator unable to open a single update: too few peers, a
threshold of half or less, keys that nobody enrolled signed, its own keys changed, another set of sites than
it made its masks for, and both kinds of shares of one peer. The site opens a sum only when as many peers as
the threshold have shown it, under keys that the coordinator does not have, that they open the very same sum.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from mmfed_common.errors import PrivacyError
from mmfed_common.masking.keys import (
    PARTS,
    PeerKeys,
    Session,
    adds_mask,
    agree,
    agreement_tag,
    commitment_of,
    mask_seed,
    new_secret,
    open_shares,
    public_of,
    round_digest,
    seal_shares,
    set_digest,
)
from mmfed_common.masking.rules import LEAST_PEERS, threshold_of
from mmfed_common.masking.shamir import SECRET_BYTES, SHARE_BYTES, split
from mmfed_common.masking.stream import AddsMasks, Mask, Vector, add_masks
from mmfed_common.signing import SiteKey
from mmfed_common.study import Aggregation
from mmfed_common.threads import cores, share_out

SEALING, MASKING = 0, 1
STEPS = ("keys", "shares", "mask", "agree", "open")


class MaskingSession:
    """A site's secrets for one attempt at one round; they are never written down.

    Parameters
    ----------
    session
        Which attempt.
    site
        The site's name.
    key
        Its enrolled key.
    rule
        The study's: threshold and least number of sites.
    """

    def __init__(self, session: Session, site: str, key: SiteKey, rule: Aggregation) -> None:
        self.session, self.site, self.rule = session, site, rule
        self._sealing, self._masking, self._seed = new_secret(), new_secret(), secrets.token_bytes(32)
        self.own = self._signed(key)
        """This site's public keys, signed."""
        self.peers: dict[str, PeerKeys] = {}
        """Every site of the round, this one too, by name; sorted."""
        self.threshold = 0
        self.senders: tuple[str, ...] = ()
        """Sites whose masks this site's numbers hold, sorted."""
        self.alive: tuple[str, ...] = ()
        """Sites whose sum this site has agreed to open, sorted."""
        self._shares: dict[str, bytes] = {}
        self._agreed: dict[str, tuple[bytes, bytes]] = {}
        """What this site's sealing and masking keys agree on with those of each peer."""
        self._seen = session
        """The attempt between sites that were shown the same peers and threshold."""
        self._next = 1

    def share(self, peers: Sequence[PeerKeys], threshold: int) -> list[bytes]:
        """Take the peers' keys and give, in their order, shares of this site's secrets, sealed for each.

        Parameters
        ----------
        peers
            All sites of the round, this one too.

        Raises
        ------
        PrivacyError
            ``MMF-380``, ``MMF-384``, ``MMF-385``, ``MMF-387`` as the class says.
        """
        self._step("shares")
        with self._nothing_kept_after_failure():
            return self._share(peers, threshold)

    def _share(self, peers: Sequence[PeerKeys], threshold: int) -> list[bytes]:
        count = len(peers)
        least = threshold_of(self.rule.secure_threshold, count)
        if count < max(LEAST_PEERS, self.rule.minimum_sites):
            raise PrivacyError("MMF-380", f"{count} sites", self.site)
        if not least <= threshold <= count:
            what = f"a threshold of {threshold} of {count} sites, the study's is {least}"
            raise PrivacyError("MMF-380", what, self.site)
        self._refuse_false_peers(peers)
        self._agreed = self._agree(peers)
        self.peers = {peer.site: peer for peer in sorted(peers, key=lambda peer: peer.site)}
        self.threshold = threshold
        self._seen = self.session.seen_alike(round_digest(peers, threshold))
        pairs = zip(split(self._seed, threshold, count), split(self._masking, threshold, count), strict=True)
        shares = {name: own + masking for name, (own, masking) in zip(self.peers, pairs, strict=True)}
        self._shares[self.site] = shares[self.site]
        return [self._sealed(peer, shares[peer.site]) for peer in peers]

    def mask(
        self, senders: Sequence[str], sealed: Sequence[bytes], vector: Vector, add: AddsMasks = add_masks
    ) -> None:
        """Mask a vector in place.

        Parameters
        ----------
        senders
            The sites whose shares came to the server, this one too: those that may send masked numbers.
        sealed
            What each of them sealed for this site. A share that cannot be opened is one that this site cannot
            give; enough others can, or the sum stays closed.
        add
            How masks are added to this kind of vector.

        Raises
        ------
        PrivacyError
            ``MMF-388`` when these are too few, or not of the round's sites; ``MMF-387`` out of order.
        """
        self.check_senders(senders, sealed)
        self._step("mask")
        self.senders = tuple(sorted(senders))
        masked = self._seen.seen_alike(set_digest(senders))
        for name, content in zip(senders, sealed, strict=True):
            if name != self.site and (shares := self._opened(name, content)) is not None:
                self._shares[name] = shares
        masks = [Mask(self._seed)]
        for name in self.senders:
            if name != self.site:
                seed = mask_seed(masked, self._agreed[name][MASKING], self.site, name)
                masks.append(Mask(seed, negative=not adds_mask(self.site, name)))
        add(vector, masks)

    def check_senders(self, senders: Sequence[str], sealed: Sequence[bytes]) -> None:
        """Raise as :meth:`mask` would, before anything is computed that is then masked."""
        self._refuse_out_of_turn("mask")
        names = set(senders)
        distinct = len(names) == len(senders) == len(sealed) and names <= set(self.peers)
        if not distinct or self.site not in names or len(names) < self._least:
            raise PrivacyError("MMF-388", f"masks with {len(names)} of {len(self.peers)} sites", self.site)

    def agree(self, alive: Sequence[str], gone: Sequence[str]) -> list[bytes]:
        """Agree to open the sum of some sites: gives for each of them what shows it that this site does.

        Raises
        ------
        PrivacyError
            ``MMF-388`` when they and those that are gone are not exactly the sites whose masks this site's
            numbers hold, or too few are left; ``MMF-387`` out of order.
        """
        self._step("agree")
        with self._nothing_kept_after_failure():
            return self._agree_to(alive, gone)

    def _agree_to(self, alive: Sequence[str], gone: Sequence[str]) -> list[bytes]:
        parted = not set(alive) & set(gone) and sorted([*alive, *gone]) == list(self.senders)
        if not parted or self.site not in alive or len(alive) < self._least:
            what = f"to open the sum of {len(alive)} of {len(self.senders)} sites"
            raise PrivacyError("MMF-388", what, self.site)
        self.alive = tuple(sorted(alive))
        return [self._tag(self.site, name) for name in alive]

    def open(self, agreed: Sequence[str], tags: Sequence[bytes]) -> list[bytes]:
        """Give the shares that open the sum, once as many sites as the threshold have agreed to this one.

        Parameters
        ----------
        agreed, tags
            Sites, and what each of them gave this one by :meth:`agree`.

        Returns
        -------
        shares
            Of every sender, in the order of names: of one that is alive the share of its own mask's seed, of
            one that is gone the share of its masking key; never both; empty where there is none.

        Raises
        ------
        PrivacyError
            ``MMF-388`` when too few agree, ``MMF-387`` out of order.
        """
        self._step("open")
        try:
            return self._open(agreed, tags)
        finally:
            self._forget()

    def _open(self, agreed: Sequence[str], tags: Sequence[bytes]) -> list[bytes]:
        told = dict(zip(agreed, tags, strict=False))
        valid = {
            name
            for name in self.alive
            if name == self.site or hmac.compare_digest(self._tag(name, self.site), told.get(name, b""))
        }
        if len(valid) < self.threshold:
            what = f"{len(valid)} sites agree to this sum, {self.threshold} must"
            raise PrivacyError("MMF-388", what, self.site)
        given = []
        for name in self.senders:
            both = self._shares.get(name, b"")
            given.append(both[:SHARE_BYTES] if name in self.alive else both[SHARE_BYTES:])
        return given

    @property
    def _least(self) -> int:
        return max(self.threshold, self.rule.minimum_sites)

    def _step(self, name: str) -> None:
        self._refuse_out_of_turn(name)
        self._next += 1

    def _refuse_out_of_turn(self, name: str) -> None:
        if STEPS[self._next : self._next + 1] != (name,):
            raise PrivacyError("MMF-387", f"`{name}` was answered before or comes too early", self.site)

    def _signed(self, key: SiteKey) -> PeerKeys:
        parts = (public_of(self._sealing), public_of(self._masking), commitment_of(self._seed))
        keys = PeerKeys(self.site, key.public.pem().decode(), *parts)
        signature = key.sign(keys.statement(self.session))
        return PeerKeys(keys.site, keys.enrolled, *parts, signature)

    def _refuse_false_peers(self, peers: Sequence[PeerKeys]) -> None:
        if [peer for peer in peers if peer.site == self.site] != [self.own]:
            raise PrivacyError("MMF-384", "own keys", self.site)
        others = [peer for peer in peers if peer.site != self.site]
        faults = [""] * len(others)

        def find(first: int, last: int) -> None:
            for place in range(first, last):
                faults[place] = others[place].fault(self.session)

        share_out(find, len(others), cores())
        for peer, fault in zip(others, faults, strict=True):
            if fault:
                raise PrivacyError("MMF-385", f"{peer.site[:80]}: {fault}", self.site)
        for what in PARTS:
            if len({getattr(peer, what) for peer in peers}) < len(peers):
                raise PrivacyError("MMF-385", f"two peers have the same {what} key or name", self.site)

    def _agree(self, peers: Sequence[PeerKeys]) -> dict[str, tuple[bytes, bytes]]:
        others = [peer for peer in peers if peer.site != self.site]
        try:
            sealing = agree(self._sealing, [peer.sealing for peer in others])
            masking = agree(self._masking, [peer.masking for peer in others])
        except ValueError:
            raise PrivacyError("MMF-385", "a peer's key agrees with every key", self.site) from None
        return {
            peer.site: keys for peer, keys in zip(others, zip(sealing, masking, strict=True), strict=True)
        }

    def _sealed(self, peer: PeerKeys, shares: bytes) -> bytes:
        if peer.site == self.site:
            return b""
        return seal_shares(self._seen, self._agreed[peer.site][SEALING], self.site, peer.site, shares)

    def _opened(self, peer: str, content: bytes) -> bytes | None:
        shares = open_shares(self._seen, self._agreed[peer][SEALING], self.site, peer, content)
        return shares if shares is not None and len(shares) == 2 * SHARE_BYTES else None

    def _tag(self, signer: str, reader: str) -> bytes:
        if signer == reader:
            return b""
        agreed = self._agreed[reader if signer == self.site else signer][SEALING]
        return agreement_tag(self._seen, agreed, signer, reader, self.alive)

    @contextmanager
    def _nothing_kept_after_failure(self) -> Iterator[None]:
        """A step that was refused ends the session: no later one can be taken."""
        try:
            yield
        except BaseException:
            self._forget()
            raise

    def _forget(self) -> None:
        """Nothing of the round is of use any more; Python cannot wipe memory, but need not keep it."""
        self._shares.clear()
        self._agreed.clear()
        self._sealing = self._masking = self._seed = bytes(SECRET_BYTES)

"""The vocabulary of the messages between server and sites: types, records and keys.

Every request carries the record ``config`` with the study's hash and the round; every reply carries the
record ``about`` with the study's hash, the round and the site's name.
"""

from __future__ import annotations

HELLO = "query.hello"
"""Who is there: a site answers with its name and how many patients it can train on."""
MOMENTS = "query.moments"
"""Counts, sums and sums of squares of each feature, for the federated scaling."""
TRAIN = "train"
"""One round of local training."""
EVALUATE_HELD_OUT = "evaluate.held_out"
"""Loss over the held-out patients."""
EVALUATE_VALIDATION = "evaluate.validation"
"""Loss over the part of the training patients that early stopping looks at."""

ARRAYS = "arrays"
FROZEN = "frozen"
SCALING = "scaling"
CONFIG = "config"
METRICS = "metrics"
ABOUT = "about"

STUDY_HASH = "study-hash"
ROUND = "round"
SITE = "site"
REQUEST = "request"
"""In ``about``: the id of the message that is answered; ties a signed answer to one question."""
SIGNATURE = "signature"
"""In ``about``: the site's signature over :func:`mmfed_common.seal.sealed_bytes`, in hexadecimal."""
LEDGER_HEAD = "ledger-head"
"""In ``about``: the hash of the site's last ledger entry before this answer."""
LEDGER_LENGTH = "ledger-length"
"""In ``about``: how many entries the site's ledger has."""
SOFTWARE = "software"
"""In ``about`` of a hello: the version of mmfed at the site."""
NOTICE = "notice"
"""In ``config``: the code for which the site's last update was refused, so that the site can say so."""
NUM_EXAMPLES = "num-examples"
LOSS = "loss"
SECONDS = "seconds"
PROXIMAL_MU = "proximal-mu"
"""Flower's FedProx writes this key."""

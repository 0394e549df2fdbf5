"""The ``policy.toml`` that ``join`` writes: every key with its default, explained."""

from __future__ import annotations

POLICY_TEMPLATE = """\
# What this site allows, whatever a study says. The stricter of study and policy holds.
# A line with # in front shows the default. Unknown keys are errors; without this file nothing runs.
# The file is read again for every message, so that a change acts at once. docs/policy.md explains each key.

# --- What may leave -----------------------------------------------------------------------------------
# minimum_patients = 5             # fewer training patients: no update leaves, and the count is not told
# minimum_cell = 10                # fewer held-out patients: no loss over them leaves
# minimum_per_feature = 5          # fewer patients with a feature: none of its sums leaves
# allow_moments = true             # count, sum, sum of squares of each feature, once, for one common scale
# evaluation = true                # sums of the loss over held-out patients
# metrics = ["num-examples", "loss", "seconds"]   # one that is left out is sent as 0; num-examples must stay
# largest_update_megabytes = 1000

# --- What may run -------------------------------------------------------------------------------------
# strategies = ["fedavg", "fedprox", "fedadam"]
# coordinators = []                # fingerprints of keys; empty: only the coordinator this site enrolled with
# most_rounds = 1000
# most_answers_per_round = 25      # how often the same question about one round is answered
# two_person = false               # true: two different people must approve each study
# hours = "00:00-24:00"            # by this machine's local clock, e.g. "22:00-06:00"
# days = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
# gpu_memory = 1.0                 # share of a GPU's memory that training may take

# --- Secure aggregation (studies with `secure = true`) --------------------------------------------------
# peers = []                       # fingerprints of the other sites, told by telephone; empty: any are taken
# hide_counts = false              # true: this site tells nobody how many patients it has; such studies only

# --- Differential privacy -----------------------------------------------------------------------------
# The next line also allows studies without differential privacy: their weights may tell something about
# single patients to whoever sees them. Take it out, or write true, and only studies with it run here.
require_privacy = false
# allow_shared_noise = false       # true: noise that is enough only in the masked sum; list `peers` then
# most_epsilon_per_study = 8.0     # the smaller ε, the less anybody can learn about one patient
# most_epsilon_lifetime = 16.0     # of all studies of this site together; then no study with it runs any more
# largest_delta = 1e-5             # must also be below 1 over the number of training patients
"""

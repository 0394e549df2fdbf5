"""Codes of 38x and 39x: secure aggregation."""

from __future__ import annotations

from mmfed_common.error_codes.code import Code

AGAIN = "The round is tried again with the sites that are there; nothing of it was opened."
ASK = "Nothing was sent. Ask the coordinator why; if nobody can say, stop: `mmfed-client revoke`"

CODES: dict[str, Code] = {
    "MMF-380": Code(
        "A masked round was asked for with too few sites, or with a lower threshold than the study's.", ASK
    ),
    "MMF-381": Code(
        "A study asks for secure aggregation together with compression.",
        'Set `compression = "none"`: masked numbers look random and cannot be made shorter.',
    ),
    "MMF-382": Code(
        "A study asks for noise that the sites share where it would not make their sum private.",
        'Set what the message names, or `[privacy] noise = "site"`: then each update is private by itself.',
    ),
    "MMF-383": Code(
        "A sum of a feature over this site's patients is too large to be summed under masks.",
        "Give the feature in a larger unit, in the contract and in the cohort; nothing was sent.",
    ),
    "MMF-384": Code("The list of a masked round does not hold this site with the keys that it made.", ASK),
    "MMF-385": Code(
        "A peer's keys of a masked round are not signed by its enrolled key, damaged, or named twice.", ASK
    ),
    "MMF-386": Code(
        "A masked round names a site whose key the policy's `peers` does not list.",
        "Compare its fingerprint with the people there by telephone, then add it to `peers` in policy.toml.",
    ),
    "MMF-387": Code(
        "A message belongs to no masked round that is going on here, or was answered before.",
        "Nothing need be done: after a restart the site takes part again from the next round on.",
    ),
    "MMF-388": Code(
        "Asked to open a sum of other sites than the site's own masked numbers were made for.", ASK
    ),
    "MMF-389": Code(
        "This round's sum was opened before, for other sites: both together would show single updates.",
        "Bring back the sites that took part then, or begin a new version of the study.",
    ),
    "MMF-390": Code("Too few shares of a site came to open the sum of a masked round.", AGAIN),
    "MMF-391": Code(
        "The sum of a masked round is not one that sites can have: one of them sent wrong numbers.",
        "The round is tried again. If it stays, let all run `mmfed-client check`: masks hide whose it is.",
    ),
    "MMF-392": Code(
        "A site gave shares that do not belong to the secret that they should.",
        "The sum was opened all the same. Ask the sites that are named which version they run, and whether "
        "their machines are sound.",
    ),
    "MMF-393": Code(
        "Flower's engine on Ray does not keep a site in one process, which secure aggregation needs.",
        "Use `--backend inprocess`, with `--workers` if it should be faster.",
    ),
    "MMF-394": Code(
        "A message of secure aggregation in a study without it, or an update asked for without its masks.",
        ASK,
    ),
    "MMF-395": Code(
        "The policy hides the number of patients, which a study without secure aggregation cannot do.",
        "Ask for a study with `[aggregation] secure = true`, or set `hide_counts = false` in policy.toml.",
    ),
    "MMF-396": Code(
        "The policy does not allow noise that the sites share: an update alone would not be private.",
        'Ask for a study with `[privacy] noise = "site"`, or set `allow_shared_noise = true` in policy.toml '
        "with `peers`: docs/masking.md says what then rests on the other sites.",
    ),
    "MMF-397": Code(
        "A masked round has too few sites for the noise that they share to be enough.",
        "Nothing was trained or spent. Let more sites take part, or begin a new version of the study with a "
        "larger `secure_threshold` or fewer `colluding_sites`.",
    ),
    "MMF-398": Code(
        "A site cannot add its share of the noise to masked numbers exactly enough.",
        "Nothing was spent. Let fewer parameters move (`[privacy] trainable`), ask for a larger ε, or leave "
        'sites with so few patients out; `noise = "site"` has none of these limits.',
    ),
}

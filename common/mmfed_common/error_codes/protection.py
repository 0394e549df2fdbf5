"""Codes of 31x to 35x: what protects a site: ledger, policy, approval, gate."""

from __future__ import annotations

from mmfed_common.error_codes.code import Code

CODES: dict[str, Code] = {
    "MMF-310": Code(
        "The site's ledger is damaged or was changed.",
        "Nothing leaves until it is whole: run `mmfed-client ledger verify`, restore the file from a copy, "
        "and tell the coordinator, who holds its last head.",
    ),
    "MMF-311": Code(
        "The site's ledger cannot be read or written.",
        "Free space on its disk and check the file's owner; nothing leaves without a receipt.",
    ),
    "MMF-312": Code(
        "Another program holds the site's ledger.",
        "Wait, or look with `fuser` for the process that keeps the file locked.",
    ),
    "MMF-313": Code(
        "An exported ledger is not what the site signed.",
        "Ask the site for a new export, and compare its head with the one the coordinator keeps.",
    ),
    "MMF-320": Code(
        "The site's policy cannot be read.",
        "Nothing runs without a policy: restore policy.toml in the site's home; see `docs/policy.md`.",
    ),
    "MMF-321": Code(
        "The site's policy is not valid.",
        "Correct the named key in policy.toml; unknown keys are errors. `docs/policy.md` lists them all.",
    ),
    "MMF-322": Code(
        "The site's policy refuses the study.",
        "Each reason is listed with its remedy; the site may change its policy, the coordinator the study.",
    ),
    "MMF-323": Code(
        "Fewer patients than the site's policy asks for.",
        "Wait for more patients, or let whoever owns policy.toml lower `minimum_patients`.",
    ),
    "MMF-324": Code(
        "The site's policy does not list this coordinator.",
        "Compare the fingerprint by telephone, then add it to `coordinators` in policy.toml.",
    ),
    "MMF-325": Code(
        "The site's policy does not allow the study's strategy.",
        "Ask the coordinator for another strategy, or add it to `strategies` in policy.toml.",
    ),
    "MMF-326": Code(
        "The study has more rounds than the site's policy allows.",
        "Ask the coordinator for a shorter study, or raise `most_rounds` in policy.toml.",
    ),
    "MMF-327": Code(
        "The site's policy does not let anything run at this hour.",
        "Wait: the site goes on by itself in the next allowed hours; see `hours`, `days` in policy.toml.",
    ),
    "MMF-328": Code(
        "The site's policy asks for differential privacy, which the study does not have.",
        "Ask the coordinator for a study with privacy, or set `require_privacy = false` in policy.toml.",
    ),
    "MMF-329": Code(
        "The study's privacy parameters are weaker than the site's policy allows.",
        "Ask the coordinator for a smaller epsilon and delta; the limits stand in policy.toml.",
    ),
    "MMF-330": Code(
        "The site's policy does not let sums of features leave, which the study's scaling needs.",
        'Ask for `normalisation = "site"` or `"reference"`, or set `allow_moments = true` in policy.toml.',
    ),
    "MMF-331": Code(
        "The study holds text that could deceive its reader or a program.",
        "Do not approve it; ask the coordinator where the named key comes from.",
    ),
    "MMF-332": Code(
        "The study is not approved at this site.",
        "Read it with `mmfed-client review`; if it is right, agree with `mmfed-client approve`.",
    ),
    "MMF-333": Code(
        "The study's approval has ended.",
        "The study expired; ask the coordinator to sign it anew, then review and approve it again.",
    ),
    "MMF-334": Code(
        "A second person's approval is missing.",
        "Somebody else at the site runs `mmfed-client review` and `mmfed-client approve`.",
    ),
    "MMF-335": Code(
        "The same person cannot approve twice.",
        "The policy asks for two people; let another one run `mmfed-client approve`.",
    ),
    "MMF-336": Code(
        "The name of who decides cannot be used.",
        "Give a name of 1 to 100 printable characters with --name.",
    ),
    "MMF-340": Code(
        "An update is larger than the site's policy allows.",
        "Ask the coordinator for a smaller model, or raise `largest_update_megabytes` in policy.toml.",
    ),
    "MMF-342": Code(
        "Too many messages of one sort within a minute.",
        "Nothing is answered for a while, the site goes on by itself; its log says what was asked or failed.",
    ),
    "MMF-343": Code(
        "The coordinator asks for the same round again and again.",
        "Ask the coordinator why; `most_answers_per_round` stands in policy.toml.",
    ),
    "MMF-344": Code(
        "Other sums of features have left this site for the same study.",
        "Both together would show who was added in between: go on with the tables that the study began with, "
        "or ask the coordinator for a new study, knowing this.",
    ),
    "MMF-341": Code(
        "The site's own version of the study is not the one that was approved.",
        "Restore the signed study in the home's studies folder; nothing was trained.",
    ),
}

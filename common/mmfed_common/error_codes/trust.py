"""Codes of 41x to 44x: keys, certificates, signatures, enrolment."""

from __future__ import annotations

from mmfed_common.error_codes.code import Code

CODES: dict[str, Code] = {
    "MMF-411": Code("A key cannot be read.", "Check the path, or restore the key from its copy."),
    "MMF-412": Code(
        "A private key can be read by others.", "Run `chmod 600` on the file, then think about a new key."
    ),
    "MMF-413": Code(
        "The passphrase of a key is missing or wrong.", "Give it in the variable MMFED_PASSPHRASE."
    ),
    "MMF-414": Code(
        "A study is not signed by this site's coordinator.",
        "Do not approve it. Ask the coordinator, by telephone, for the study and the key's fingerprint.",
    ),
    "MMF-415": Code(
        "The signature of a study has expired, or is not valid yet.",
        "Check this machine's clock; otherwise ask the coordinator to sign the study again.",
    ),
    "MMF-416": Code(
        "What came from a site is not signed by the site's key.",
        "Look at the site's log; if its key was changed, use `mmfed-server enrol --rotate`.",
    ),
    "MMF-417": Code(
        "A study is signed for another federation.",
        "Use the home of that federation (--home), or ask the coordinator for the right study.",
    ),
    "MMF-418": Code(
        "A signed study cannot be read.",
        "Fetch it again with `mmfed-client review`; if versions differ, install the one that is named.",
    ),
    "MMF-419": Code("A join kit cannot be read.", "Ask the coordinator for a new kit and keep it unchanged."),
    "MMF-420": Code(
        "A join kit has expired.", "Ask the coordinator for a new one: `mmfed-server enrol SITE`."
    ),
    "MMF-421": Code(
        "The coordinator's server did not accept the join kit.",
        "The kit was used with another key, has expired or was withdrawn: ask the coordinator for a new one.",
    ),
    "MMF-422": Code(
        "The home already belongs to another site or federation.", "Choose another folder with --home."
    ),
    "MMF-423": Code(
        "The home of the site is missing or damaged.",
        "Give the right folder with --home, or run `mmfed-client join KIT` first.",
    ),
    "MMF-424": Code(
        "This machine's clock differs from the server's.",
        "Set the clock by a time server (`timedatectl set-ntp true`), then try again.",
    ),
    "MMF-425": Code(
        "A name or an address is not allowed.",
        "Use letters, digits, `-` and `_` for a site (at most 63), and `host:port` for an address.",
    ),
    "MMF-426": Code(
        "The server could not prove that it is the coordinator's.",
        "Do not go on. Ask the coordinator, by telephone, for the address and the key's fingerprint.",
    ),
    "MMF-427": Code(
        "A file from the server is not the one that its hash names.",
        "Nothing was kept. Try again; if it happens twice, tell the coordinator.",
    ),
    "MMF-428": Code(
        "The coordinator's server cannot be reached.",
        "Check address, network and the variables HTTPS_PROXY and NO_PROXY; `mmfed-client check` says more.",
    ),
    "MMF-429": Code(
        "The server's certificate is not one of this federation.",
        "Ask the network's administrator whether TLS is intercepted; `mmfed-client check` names the issuer.",
    ),
    "MMF-430": Code(
        "The answer of the coordinator's server cannot be understood.",
        "Check that nothing in between answers for it (proxy, gateway), and that the versions agree.",
    ),
    "MMF-431": Code("The folder is not empty.", "Choose another folder for the new federation."),
    "MMF-432": Code(
        "The folder of the federation is missing or damaged.",
        "Give the right folder with --dir, or run `mmfed-server init` first.",
    ),
    "MMF-433": Code(
        "The certificate authority's key is not there.",
        "Bring `ca/ca.key` back for as long as a certificate is made; nothing else needs it.",
    ),
    "MMF-434": Code("No such site.", "See `mmfed-server enrol --list` for the sites of this federation."),
    "MMF-435": Code(
        "The site's state does not allow this.",
        "See `mmfed-server enrol --list`; revoke a site before you invite it again.",
    ),
    "MMF-436": Code(
        "A site's ledger was rewritten or cut.",
        "Ask the site for `mmfed-client ledger export`, and lift the quarantine only when it is explained.",
    ),
    "MMF-437": Code(
        "The key already belongs to another site.", "Join with an empty home, so that a new key is made."
    ),
    "MMF-438": Code(
        "The coordinator has not begun a change of this site's key.",
        "Ask the coordinator to run `mmfed-server enrol SITE --rotate`, then try again.",
    ),
    "MMF-439": Code(
        "The server does not know this site's key.",
        "The site was revoked or its key was replaced: ask the coordinator for a new join kit.",
    ),
    "MMF-440": Code(
        "The database cannot be used.",
        "Check `database` in federation.toml, that its server runs, and the free disk space.",
    ),
    "MMF-441": Code(
        "A site's ledger no longer holds an entry that the site told before.",
        "Ask the site for `mmfed-client ledger export`, compare it with `mmfed-server ledger SITE EXPORT`, "
        "and lift the quarantine only when it is explained.",
    ),
    "MMF-442": Code(
        "The coordinator's server stands still: its disk is full or its database is away.",
        "Nothing is to be done here: it goes on by itself. If it lasts, tell the coordinator the code named.",
    ),
}

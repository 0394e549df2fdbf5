"""Codes of 47x and 48x: the way between site and server."""

from __future__ import annotations

from mmfed_common.error_codes.code import Code

CODES: dict[str, Code] = {
    "MMF-470": Code(
        "The server cannot be reached.",
        "Check the address in site.toml, the network and the proxy; the site tries again by itself.",
    ),
    "MMF-471": Code(
        "The server's certificate is not accepted.",
        "If somebody inspects encrypted traffic here, ask for an exception for the server's address; else "
        "ask the coordinator whether certificates changed.",
    ),
    "MMF-472": Code(
        "The server refuses the site's key.",
        "Ask the coordinator whether the site is enrolled or was revoked; run `mmfed-client join` with a new "
        "kit if it was.",
    ),
    "MMF-473": Code(
        "This machine's clock and the server's differ too much.",
        "Set the clock, best by NTP: the difference must stay below five minutes.",
    ),
    "MMF-474": Code(
        "The server, or a proxy before it, fails.",
        "The site tries again by itself; if it lasts, ask the coordinator to look at the server's log.",
    ),
    "MMF-475": Code(
        "Something else answers at the server's address.",
        "Check the address in site.toml, and whether a proxy answers in the server's place.",
    ),
    "MMF-476": Code(
        "Site and server run different versions of Flower.",
        "Install the version of mmfed that the coordinator names.",
    ),
    "MMF-477": Code(
        "Nobody waits for the answer to this message any more.",
        "Nothing is to be done: the round went on without it, or the server started again and asks anew.",
    ),
    "MMF-478": Code(
        "The server does not take the answer.",
        "Ask the coordinator to look at the server's log and at the room on its disk.",
    ),
    "MMF-479": Code(
        "A message from the server is malformed or too long.",
        "Nothing was done with it; tell the coordinator.",
    ),
    "MMF-484": Code(
        "The server's address cannot be taken.",
        "Stop the other program that uses the port, or change `listen` in federation.toml.",
    ),
    "MMF-485": Code(
        "The server's certificate or key cannot be used.",
        "Look at the files in the folder `server` of the federation; renew them if they are damaged.",
    ),
    "MMF-486": Code(
        "The folder for waiting messages cannot be used.",
        "See that it can be written and that the disk has room.",
    ),
    "MMF-487": Code(
        "What a site sent is not a message.",
        "Ask the site to install the version of mmfed that the server runs.",
    ),
}

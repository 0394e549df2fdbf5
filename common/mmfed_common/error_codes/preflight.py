"""Codes of 13x, 14x and 49x: what ``mmfed-client check`` finds on the machine and on its network."""

from __future__ import annotations

from mmfed_common.error_codes.code import Code

CODES: dict[str, Code] = {
    "MMF-130": Code(
        "A part of the check did not finish in its time.",
        "Run the check again with --seconds 600; if it still stops there, look at the disk or network named.",
    ),
    "MMF-131": Code(
        "A part of the check met something that has no explanation.",
        "This part was not checked. Please report the exception's name and place, without patient data.",
    ),
    "MMF-132": Code(
        "The disk of the home has too little space.",
        "Free space on this disk, or move the home to a larger one.",
    ),
    "MMF-133": Code(
        "Others may change files of the home.",
        "Run `chmod -R go-w` on the home, and look whether policy.toml and site.toml are still as you wrote "
        "them.",
    ),
    "MMF-134": Code(
        "The system allows this user too little.",
        "Raise the limit that is named (`ulimit`, `LimitNOFILE=` of the systemd unit, limits.conf).",
    ),
    "MMF-135": Code(
        "A package is missing or of a version that mmfed does not work with.",
        "Install mmfed again in a fresh environment, so that every version fits.",
    ),
    "MMF-136": Code(
        "The study was signed with other software.",
        "Install the versions that are named, or ask the coordinator to sign with the ones here.",
    ),
    "MMF-137": Code(
        "The memory is too small for the study.",
        "Stop other programs, give the container more memory, or ask the coordinator for a smaller `batch`.",
    ),
    "MMF-138": Code(
        "There is a GPU, but it cannot be used.",
        "Repair what is named. Without a GPU the site trains on the CPU, which is slower and gives the same.",
    ),
    "MMF-139": Code(
        "The training step did not work.",
        "Repair what is named; the node would fail in the same way in the first round.",
    ),
    "MMF-140": Code(
        "A round would take longer here than the study allows.",
        "Use a faster machine or a GPU, or ask the coordinator for a longer `deadline_seconds`.",
    ),
    "MMF-141": Code(
        "The clock could not be compared with the server's.",
        "See that the clock is set by a time server: `timedatectl status`.",
    ),
    "MMF-142": Code(
        "The report of the check cannot be written.", "Choose another file with --html, or free disk space."
    ),
    "MMF-490": Code(
        "The proxy that the environment names cannot be used.",
        "Correct the variable that is named, e.g. HTTPS_PROXY=http://proxy.example:3128, or unset it.",
    ),
    "MMF-491": Code(
        "The proxy does not let the site through.",
        "Ask the network's administrator to allow CONNECT to the address of the server.",
    ),
    "MMF-492": Code(
        "The name of the server cannot be resolved.",
        "Check `address` in site.toml for a typing error and this machine's DNS (`getent hosts NAME`).",
    ),
    "MMF-493": Code(
        "The server's port cannot be reached.",
        "Ask the network's administrator to allow outgoing TCP to this address and port.",
    ),
    "MMF-494": Code(
        "What answers at the address does not speak TLS 1.2 or newer.",
        "Check the port in `address` of site.toml, and ask the coordinator whether the server runs.",
    ),
    "MMF-495": Code(
        "The certificate that is presented is not the federation's.",
        "Something in between opens the encryption. Ask the network's administrator to exempt this address "
        "from TLS inspection; if there is none, ask the coordinator, by telephone, for the fingerprint.",
    ),
    "MMF-496": Code(
        "The server's certificate is for another name.",
        "Write one of the certificate's names into `address` of site.toml, or ask the coordinator to add "
        "this name to federation.toml and to renew the certificate.",
    ),
    "MMF-497": Code(
        "The server's certificate has expired, or expires soon.",
        "Ask the coordinator to renew the server's certificate; nothing need be done at the site.",
    ),
    "MMF-498": Code(
        "The certificate of the federation's authority is unusable, or expires soon.",
        "Ask the coordinator for a new join kit, which brings a new certificate.",
    ),
    "MMF-499": Code(
        "Something else answers in place of the coordinator's server.",
        "Ask the coordinator whether the server runs and the gateway in front of it passes on to it.",
    ),
}

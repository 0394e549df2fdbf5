"""Codes of 55x and 580: the coordinator's process and its program."""

from __future__ import annotations

from mmfed_common.error_codes.code import Code

CODES: dict[str, Code] = {
    "MMF-550": Code(
        "The federation is being served already.",
        "Use the server that runs (`mmfed-server status`), or stop it before you start another.",
    ),
    "MMF-551": Code(
        "The coordinator does not have this study.",
        "Give its file: `mmfed-server start --study FILE`.",
    ),
    "MMF-552": Code(
        "The run has no model to release yet.",
        "Wait for its last round (`mmfed-server runs`), or add --unfinished to take the last whole round.",
    ),
    "MMF-553": Code(
        "A port of this machine cannot be used.",
        "Stop what uses it, or change `listen` or `metrics_port` in federation.toml.",
    ),
    "MMF-554": Code("The file exists already.", "Choose another name; nothing was overwritten."),
    "MMF-555": Code(
        "The server ended without saying so.",
        "Start it again with `mmfed-server start`: the run goes on after its last whole round.",
    ),
    "MMF-556": Code(
        "A run met something that mmfed did not expect.",
        "Report the traceback in log.jsonl; started again, the run goes on after its last whole round.",
    ),
    "MMF-557": Code(
        "The server was stopped while a run was under way.",
        "Start it again with `mmfed-server start`: the run goes on after its last whole round.",
    ),
    "MMF-558": Code(
        "The study has been finished.",
        "Release its model with `mmfed-server export`, or begin another run of it with --again.",
    ),
    "MMF-559": Code(
        "No such study, or more than one, is in the queue.",
        "List the queue with `mmfed-server study queue`, and give more of the study's hash.",
    ),
    "MMF-580": Code(
        "The study was taken off the queue while its run was under way.",
        "Put it back with `mmfed-server study submit FILE`: the run goes on after its last whole round.",
    ),
}

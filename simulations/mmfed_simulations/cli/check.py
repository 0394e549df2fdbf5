"""``mmfed-simulate check``: every fault of the cohorts, before anything runs."""

from __future__ import annotations

import typer

from mmfed_common.command_line.output import AsJson, print_json, stdout
from mmfed_common.study import Study
from mmfed_simulations.cli.arguments import CohortFolder, DataRoot, StudyFile


def check(study: StudyFile, cohort: CohortFolder, data: DataRoot = None, as_json: AsJson = False) -> None:
    """Print every fault of the cohorts against a study; nothing is trained.

    Exit code 0 if the study can run (warnings are shown), 2 if not.

    Examples:

        mmfed-simulate check demo/lung/study.toml --cohort demo/lung
        mmfed-simulate check study.toml --cohort here --data /tables --json
    """
    from mmfed_client.cohort import faults_as_json, format_faults
    from mmfed_simulations.consortium import check_consortium, load_consortium

    document = Study.load(study)
    found = check_consortium(cohort, document, study.parent, data)
    errors = sum(fault.severity == "error" for faults in found.values() for fault in faults)
    if errors == 0:
        load_consortium(cohort, document, study.parent, data)
    if as_json:
        faults = [{"site": site, **row} for site, listed in found.items() for row in faults_as_json(listed)]
        print_json({"study": document.hash, "sites": list(found), "errors": errors, "faults": faults})
    else:
        console = stdout()
        for site, listed in found.items():
            if listed:
                console.print(site or str(cohort), style="bold", markup=False)
                console.print(format_faults(listed))
        verdict = f"{errors} error(s)" if errors else f"nothing keeps {document.study.name} from running"
        console.print(f"{len(found)} cohort(s) checked: {verdict}.")
    if errors:
        raise typer.Exit(2)

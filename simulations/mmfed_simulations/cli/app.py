"""The commands of ``mmfed-simulate``, wired together."""

from __future__ import annotations

from mmfed_common.command_line.program import make_app
from mmfed_simulations.cli.attack import app as attack_app
from mmfed_simulations.cli.benchmark import app as benchmark_app
from mmfed_simulations.cli.check import check
from mmfed_simulations.cli.cohort import cohort
from mmfed_simulations.cli.compare import compare
from mmfed_simulations.cli.missing import missing
from mmfed_simulations.cli.pretrain import pretrain
from mmfed_simulations.cli.reproduce import reproduce
from mmfed_simulations.cli.results import results
from mmfed_simulations.cli.run import run
from mmfed_simulations.cli.tradeoff import tradeoff
from mmfed_simulations.cli.transfer import transfer
from mmfed_simulations.knowledge.command import app as knowledge_app

app = make_app(
    "mmfed-simulate",
    "Federated studies on one machine: make cohorts, run a federation, compare it with its alternatives.",
    "Start with: [bold]mmfed-simulate cohort --out demo/cohort[/], then "
    "[bold]mmfed-simulate run demo/cohort/study.toml --cohort demo/cohort --out demo/run[/].",
)
app.command()(cohort)
app.command()(check)
app.command()(run)
app.command()(pretrain)
app.command()(compare)
app.command()(missing)
app.command()(tradeoff)
app.command()(transfer)
app.command()(reproduce)
app.command()(results)
app.add_typer(attack_app, name="attack")
app.add_typer(knowledge_app, name="knowledge")
app.add_typer(benchmark_app, name="benchmark")

"""`kerasbalance`: the command line."""

import click

from kerasbalance.cli.common import CONTEXT
from kerasbalance.cli.compare import compare
from kerasbalance.cli.demo import demo
from kerasbalance.cli.evaluate import evaluate
from kerasbalance.cli.info import info, verify
from kerasbalance.cli.ingest import ingest
from kerasbalance.cli.inspect import inspect
from kerasbalance.cli.merge import merge
from kerasbalance.cli.mine import mine
from kerasbalance.cli.phantom import phantom
from kerasbalance.cli.predict import predict
from kerasbalance.cli.report import report
from kerasbalance.cli.study import study
from kerasbalance.cli.study_unit import study_unit
from kerasbalance.cli.train import train


@click.group(context_settings=CONTEXT, epilog="Example:  kerasbalance demo")
@click.version_option(package_name="kerasbalance")
def main() -> None:
    """Train 2D segmentation models from CT on a balanced set of slices.

    Not a medical device.
    """


for _command in (
    inspect, ingest, merge, info, verify, train, mine, evaluate, compare, report, predict, study, study_unit, phantom,
    demo,
):  # fmt: skip
    main.add_command(_command)

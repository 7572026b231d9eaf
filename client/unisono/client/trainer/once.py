"""A trainer process that answers one question and ends: `--check` or `--predict`."""

import argparse
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from unisono.base.errors import BadConfiguration
from unisono.client.task import Site, Task, create, load
from unisono.plan import Plan, parse

from .asking import Finding
from .channel import Channel
from .checking import Examination
from .failures import of_our_own, user_code
from .predicting import predict


def run(arguments: Sequence[str], channel: Channel) -> int:
    """Answer on the channel: one line a finding, or one for the prediction."""
    options = _options(arguments)
    if options.check:
        for finding in _findings(options):
            channel.reply({"finding": asdict(finding)})
        return 0
    try:
        plan = _plan(options)
        rows = predict(_task(options, plan), plan, options.device, options.model, options.out)
    except Exception as raised:
        traceback.print_exc()
        failed = of_our_own(raised)
        channel.reply({"failed": {"code": failed.reason, "detail": failed.detail or str(failed)}})
        return 1
    channel.reply({"predicted": {"rows": rows}})
    return 0


def _findings(options: argparse.Namespace) -> Iterator[Finding]:
    try:
        plan = _plan(options)
    except (BadConfiguration, OSError) as wrong:
        yield Finding("plan", "problem", str(wrong), "unisono plan check says more about a plan")
        return
    yield from Examination(lambda: _task(options, plan), plan, options.device).findings()


def _plan(options: argparse.Namespace) -> Plan:
    return parse(options.plan.read_bytes(), str(options.plan)) if options.plan else Plan(task="check")


def _task(options: argparse.Namespace, plan: Plan) -> Task:
    with user_code():
        site = Site(options.name, options.number, options.data)
        return create(load(options.task), site, plan.task_parameters)


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m unisono.client.trainer", description=__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--check", action="store_true")
    what.add_argument("--predict", action="store_true")
    parser.add_argument("--task", required=True, help="module:Class or path/file.py:Class")
    parser.add_argument("--model", type=Path, help="a plain safetensors file")
    parser.add_argument("-o", "--out", type=Path, help="the CSV file to write")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--plan", type=Path, help="a plan.toml, for its training and task_parameters")
    parser.add_argument("--name", default="check")
    parser.add_argument("--number", type=int, default=1)
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    options = parser.parse_args(arguments)
    if options.predict and not (options.model and options.out):
        parser.error("--predict needs --model and -o")
    return options

"""The command line: `ray-rerank JOB [job.yaml] [--flags]`, where flags win over the file."""

import importlib
import signal
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from ray_rerank.cluster.errors import ClusterLostError, OutputBusyError
from ray_rerank.cluster.secrets import hiding_secrets
from ray_rerank.cluster.stopping import stoppable, stopped
from ray_rerank.jobs.cli.arguments import parse
from ray_rerank.jobs.errors import EXPECTED
from ray_rerank.jobs.exit_codes import ExitCode
from ray_rerank.jobs.outputs.files import ReadEnough, check_kinds, printing_beside
from ray_rerank.operators.errors import InputError, reason_of

GROUPS = {
    "candidates and scores": {
        "prepare": "turn runs, BEIR folders, TSV or a bare corpus into candidate shards",
        "rerank": "re-rank candidate shards with one or more scorers",
        "cache": "look after a score cache: stats, compact, verify, export",
    },
    "training data and training": {
        "queries": "make training queries from the text of passages",
        "mine": "mine hard negatives: random, BM25, bi-encoder or a run, guarded by a teacher",
        "label": "label candidates with the scores of one teacher or several",
        "export": "write labels in the form that a training tool reads",
        "train": "train or distil a cross-encoder",
        "loop": "mine, label, train, distil and compare on one collection",
    },
    "measuring": {
        "evaluate": "measure a ranking or a run against judgements",
        "compare": "compare quality, latency and size of several scorers on one candidate set",
    },
    "looking around": {
        "models": "list the scorers to choose from, with size and published quality",
        "inspect": "show what an output folder holds: done, left, errors",
        "demo": "re-rank the starter collection with the model that is included",
    },
}
JOBS = {name: text for jobs in GROUPS.values() for name, text in jobs.items()}

_RESUMED = {"rerank", "label", "compare", "mine", "train", "loop", "demo"}  # what is done before a stop stays done


@hiding_secrets()
def execute(argv: Sequence[str]) -> int:
    """Run one job from its command line; returns the exit code, never raises for a user's fault.

    SIGTERM and SIGHUP end the job as Ctrl-C does, where it is called in the main thread. A process does one job at
    a time: one that needs Ray in a second thread meanwhile is refused. The environment is left as it was.
    """
    name = argv[0] if argv else ""
    with stoppable():
        try:
            return _run(name, list(argv[1:])) if name in JOBS else _overview(name)
        except ReadEnough:
            return ExitCode.DONE
        except (Exception, KeyboardInterrupt) as error:
            return _failed(name, error)


def _failed(name: str, error: BaseException) -> int:
    """Say what ended the job: a signal, and all that comes of it, before anything else."""
    with suppress(Exception):
        sys.stdout.flush()  # what was said before, in front of the end
    number = stopped() or (signal.SIGINT if isinstance(error, KeyboardInterrupt) else None)
    if number is not None and not isinstance(error, OutputBusyError | ClusterLostError):
        how = "stopped; the same command goes on from here" if name in _RESUMED else "stopped"
        print(f"ray-rerank {name}: {how}", file=sys.stderr)
        return ExitCode(128 + number)
    if isinstance(error, EXPECTED):
        print(f"ray-rerank {name}: {error}", file=sys.stderr)
        return ExitCode.REFUSED
    if told := _of_this_machine(error):
        print(f"ray-rerank {name}: {told}", file=sys.stderr)
        return ExitCode.REFUSED
    traceback.print_exception(error)
    print(f"ray-rerank {name}: a fault of ray-rerank's own; please report it with the lines above", file=sys.stderr)
    return ExitCode.FAILED


def _of_this_machine(error: BaseException) -> str | None:
    """What the machine could not do, where no step knew how to say it: memory, disks, rights."""
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
        return f"there is not enough memory on this machine ({reason_of(error)}); give the job more, or smaller units"
    if isinstance(error, OSError) and error.errno:
        return f"this machine refused: {reason_of(error)}"
    return None


def _run(name: str, arguments: list[str]) -> int:
    try:
        Path.cwd()
    except FileNotFoundError:
        raise InputError("the current folder has been deleted; change to one that exists") from None
    module = importlib.import_module(f"ray_rerank.jobs.{name}")
    config = parse(module.Config, arguments, program=f"ray-rerank {name}")
    check_kinds(config)
    with printing_beside(config):
        return int(module.run(config))


def _overview(name: str) -> int:
    """List the jobs, asked for or because there is none called so."""
    print("usage: ray-rerank JOB [job.yaml] [--flags]")
    for group, jobs in GROUPS.items():
        print(f"\n{group}:", *(f"  ray-rerank {job:<9} {text}" for job, text in jobs.items()), sep="\n")
    print("\n`ray-rerank JOB --help` lists a job's flags.")
    if name in {"-h", "--help"}:
        return ExitCode.DONE
    if name:
        print(f"\nray-rerank: there is no job called {name!r}", file=sys.stderr)
    return ExitCode.REFUSED

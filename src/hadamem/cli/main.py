"""The command line: `hadamem COMMAND`. Each command is a function; its options are the fields of a dataclass."""

from __future__ import annotations

import difflib
import os
import pathlib
import select
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import gymnasium
import tyro
from rich.console import Console

from .. import __version__
from ..agents.config import seed_for
from ..agents.evaluation import MAX_STEPS, Evaluation
from ..agents.training import evaluate_task, load_policy
from ..checks import check_fields
from ..disk import write_whole
from ..envs import EnvironmentFailedError, list_tasks
from ..envs.explained import explain
from ..memory import memory_names
from ..report.results import say_if_unfinished
from . import bench
from . import sweep as experiments
from .compare import compare
from .console import make_table, open_missing_streams, print_rows, print_table, say, show_status, write_json
from .deploy import export, pack, record, serve
from .progress import show_progress
from .study import study
from .train import clone, train
from .tune import tune
from .watch import watch


@dataclass
class Evaluate:
    """Play whole episodes with a trained policy, and with a random one for comparison."""

    run: tyro.conf.Positional[pathlib.Path]
    """folder of the run"""
    episodes: int | None = None
    """number of episodes to play; None: 200, or every task once if the environment has a list of tasks"""
    env_options: tuple[str, ...] = ()
    """options of the environment, as name=value, that differ from those of the training, such as split=eval"""
    seed: int = 0
    """seed of the evaluation's environments, which draw other random numbers than those of the training"""
    mode: Literal["greedy", "sampled"] = "greedy"
    """how actions are chosen: the most likely one, or drawn from the policy as in training"""
    num_envs: int = 50
    """largest number of environments that are stepped in parallel"""
    max_steps: int = MAX_STEPS
    """number of steps after which an episode is cut off, if the environment has no limit of its own"""
    device: str = "cpu"
    """device that the network runs on: cpu, cuda, cuda:1, ..."""
    json: pathlib.Path | None = None
    """file that the result is also written to, as JSON"""


def evaluate(arguments: Sequence[str]) -> None:
    """Play whole episodes with a trained policy, and with a random one"""
    options = tyro.cli(Evaluate, args=arguments, prog="hadamem evaluate")
    check_fields(options, ("episodes", "num_envs"), at_least=1)
    check_fields(options, ("seed",), at_least=0)
    policy, config = load_policy(options.run, options.device)
    say_if_unfinished(options.run)
    config.evaluate_options += options.env_options
    results = {}
    seed, greedy = seed_for(options.seed, "evaluation"), options.mode == "greedy"
    for name, player in ((config.memory, policy), ("random", None)):
        with show_status(f"{name}: playing") as show:
            results[name] = evaluate_task(
                config,
                player,
                seed,
                options.episodes,
                options.num_envs,
                greedy,
                _how_far(name, show),
                options.max_steps,
                partial=True,
            )
    title = ", ".join([config.env, *config.env_options, *config.evaluate_options, options.mode])
    rows = [_row(name, result) for name, result in results.items()]
    used = [head for head in rows[0] if any(row[head] != "-" for row in rows)]
    table = make_table(title, used)
    for row in rows:
        table.add_row(*(row[head] for head in used))
    print_table(table)
    trained, random = results[config.memory], results["random"]
    if not trained.better_than(random):
        say('No better than random play in these episodes. "When it does not learn" in docs/guide.md tells what to try.')
    write_json(options.json, {**asdict(trained), "random": asdict(random)})


def _row(name: str, result: Evaluation) -> dict[str, str]:
    """A row of the table of `evaluate`; "-" stands for what the environment does not report."""
    return {
        "policy": name,
        "mean return": f"{result.mean:.3f}",
        "95 % interval": f"{result.mean - result.ci95:.3f} to {result.mean + result.ci95:.3f}",
        "std": f"{result.std:.3f}",
        "episodes": str(result.episodes),
        "success": "-" if result.success_rate is None else f"{result.success_rate:.1%}",
        "inner episodes": ", ".join(f"{mean:.2f}" for mean in result.inner_means or ()) or "-",
    }


def _how_far(name: str, show: Callable[[str], None]) -> Callable[[int, int], None]:
    return lambda episodes, steps: show(f"{name}: {episodes} episodes, {steps:,} steps in each environment")


@dataclass
class Plot:
    """Draw the learning curves of runs."""

    runs: tyro.conf.Positional[tuple[pathlib.Path, ...]]
    """folders of the runs; the picture has a panel for each task, with a line for each run"""
    out: pathlib.Path = pathlib.Path("curves.png")
    """picture to write; its ending names the format"""
    metric: str = "return"
    """metric to draw: any name in the runs' metrics.jsonl, such as success or evaluation_success"""
    against: Literal["steps", "minutes"] = "steps"
    """what the horizontal axis shows: environment steps, or minutes of training"""
    labels: tuple[str, ...] = ()
    """a label for each run, in the order of the runs; none: the memory of the run"""


def plot(arguments: Sequence[str]) -> None:
    """Draw the learning curves of runs"""
    from ..report.curves import draw_curves

    options = tyro.cli(Plot, args=arguments, prog="hadamem plot")
    if not options.runs:
        raise ValueError("which runs? give the folders that hadamem train printed")
    draw_curves(options.runs, options.out, options.metric, options.against, options.labels)
    print(options.out)


@dataclass
class List:
    """List the environments that can be trained on here."""

    json: pathlib.Path | None = None
    """file that the rows are also written to, as JSON"""


@dataclass
class ListTasks(List):
    """List the environments that can be trained on here, or explain some of them."""

    names: tyro.conf.Positional[tuple[str, ...]] = ()
    """environments to explain, with their spaces and options (--env-options), any that --env takes; none: a list of all"""


def tasks(arguments: Sequence[str]) -> None:
    """List the environments that can be trained on here; with an id, its spaces and options"""
    options = tyro.cli(ListTasks, args=arguments, prog="hadamem list tasks")
    for name in options.names:
        about, its_options = explain(name)
        print(f"{name}\n{about}\n")
        if its_options:
            print_rows(f"options of {name}", its_options)
    if options.names and options.json is None:
        return
    rows = list_tasks()
    if not options.names:
        print_rows("tasks (any other Gymnasium id works too: package.module:Name-v0)", rows, without=("source",))
        say("hadamem list tasks ID explains one, with its options")
    write_json(options.json, rows)


@dataclass
class ListMemories(List):
    """List the memories, explain some of them, or write the page about them."""

    names: tyro.conf.Positional[tuple[str, ...]] = ()
    """memories to explain, with their equations and options; none: a list of all"""
    markdown: pathlib.Path | None = None
    """file that the page docs/memories.md is written to instead of printing the list; results already in it stay"""
    recall: pathlib.Path | None = None
    """file that `hadamem bench recall --json` wrote, for that page"""
    costs: pathlib.Path | None = None
    """file that `hadamem bench memories --json` wrote, for that page"""
    returns: pathlib.Path | None = None
    """file that `hadamem bench returns --json` wrote, for that page"""


def memories(arguments: Sequence[str]) -> None:
    """List the memories; with a name, its equations and options"""
    from ..studies import catalogue

    options = tyro.cli(ListMemories, args=arguments, prog="hadamem list memories")
    if options.markdown is not None:
        old = options.markdown.read_text() if options.markdown.exists() else ""
        write_whole(options.markdown, catalogue.page({name: getattr(options, name) for name in catalogue.RESULTS}, old))
        return
    rows = catalogue.rows(options.names or memory_names())
    for name in options.names:
        print(f"{catalogue.description(name)}\n")
        print_rows(f"options of {name}", catalogue.options(name))
        print(f"what `hadamem train` gives it by default: {catalogue.in_training(name)}\n")
    if not options.names:
        print_rows("memories, at 64 features in and out and their default size", rows, without=("state_bytes", "paper"))
        say("hadamem list memories NAME explains one; hadamem bench memories measures what a step costs here")
    write_json(options.json, rows)


@dataclass
class Showcase:
    """Train two agents that remember and one that cannot, and compare them."""

    out: pathlib.Path = pathlib.Path("runs/showcase")
    """folder of the runs, the table and the plot; runs that are there already are continued"""
    steps: int = 200_000
    """environment steps of each run"""
    episodes: int = 200
    """number of episodes of the evaluation of each agent"""
    seed: int = 0
    """seed of all random generators"""


def showcase(arguments: Sequence[str]) -> None:
    """Train two agents that remember and one that cannot, and compare them"""
    from ..sweeps import showcase as experiment

    options = tyro.cli(Showcase, args=arguments, prog="hadamem showcase")
    check_fields(options, ("steps", "episodes"), at_least=1)
    check_fields(options, ("seed",), at_least=0)
    rows = experiment.showcase(options.out, options.steps, options.episodes, options.seed, show_progress)
    if rows is None:
        say("stopped; repeat the same command to continue")
        return
    table = make_table(
        f"{experiment.TASK}: returns lie between -1 and 1", ["policy", "memory", "mean return", "episodes", "steps"]
    )
    for row in rows:
        mean = f"{row.mean:.3f} ± {row.ci95:.3f}"
        table.add_row(row.policy, row.memory, mean, str(row.episodes), f"{row.steps:,}")
    print_table(table)
    print(f"table: {options.out / 'results.json'}\nplot: {options.out / 'curves.png'}\nruns: {options.out}")
    print(f"curves in TensorBoard: tensorboard --logdir {options.out}")


COMMANDS: dict[str, Callable[[Sequence[str]], None]] = {
    "train": train,
    "evaluate": evaluate,
    "watch": watch,
    "record": record,
    "clone": clone,
    "pack": pack,
    "export": export,
    "serve": serve,
    "plot": plot,
    "compare": compare,
    "showcase": showcase,
    "sweep": experiments.sweep,
    "reproduce": experiments.reproduce,
    "tune": tune,
    "runs": experiments.runs,
    "list tasks": tasks,
    "list memories": memories,
    "study": study,
    "bench ops": bench.bench_ops,
    "bench limit": bench.bench_limit,
    "bench train": bench.bench_train,
    "bench contention": bench.bench_contention,
    "bench processes": bench.bench_processes,
    "bench gpu": bench.bench_gpu,
    "bench envs": bench.bench_envs,
    "bench recall": bench.bench_recall,
    "bench memories": bench.bench_memories,
    "bench returns": bench.bench_returns,
    "bench act": bench.bench_act,
    "bench export": bench.bench_export,
    "bench compile": bench.bench_compile,
}


def main() -> None:
    """Entry point of `hadamem`."""
    debug = "--debug" in sys.argv or bool(os.environ.get("HADAMEM_DEBUG"))
    try:
        try:
            run_command([word for word in sys.argv[1:] if word != "--debug"])
        finally:
            print(end="", flush=True)  # now, while an error of the output can still be handled
    except (
        EnvironmentFailedError,
        ValueError,
        FloatingPointError,
        OSError,
        ModuleNotFoundError,
        gymnasium.error.Error,
    ) as error:
        if isinstance(error, BrokenPipeError) and _reader_left():
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what Python flushes when it exits
            raise SystemExit(1) from None
        if debug:
            raise
        if isinstance(error, EnvironmentFailedError):  # the author of the environment needs the place
            traceback.print_exception(error.__cause__)
        say(f"error: {error}", style="red")
        for note in getattr(error, "__notes__", ()):
            say(note)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def run_command(arguments: Sequence[str]) -> None:
    """Run a command with its options, such as ["list", "tasks", "--json", "tasks.json"]."""
    open_missing_streams()
    if list(arguments) == ["--version"]:
        return print(__version__)
    if "" not in sys.path:  # package.module:Name-v0 may name a module in the current folder; installed packages come first
        sys.path.append("")
    words = 2 if " ".join(arguments[:2]) in COMMANDS else 1
    command = COMMANDS.get(" ".join(arguments[:words]))
    if command is None:
        return _usage(arguments)
    command(arguments[words:])


def _reader_left() -> bool:
    """Whether stdout is a pipe that nobody reads any more, as in `hadamem ... | head`."""
    poll = select.poll()
    poll.register(sys.stdout, 0)  # no event is asked for; errors are always reported
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def _usage(arguments: Sequence[str]) -> None:
    """Print the list of commands and exit, either as the help or because the command is unknown."""
    asked = not arguments or arguments[0] in ("-h", "--help")
    out = Console(stderr=not asked, emoji=False)
    if not asked:
        typed = " ".join(word for word in arguments[:2] if not word.startswith("-"))
        near = difflib.get_close_matches(typed, COMMANDS, n=2, cutoff=0.5)
        near = near or [name for name in COMMANDS if name.startswith(typed)]
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        say(f"error: no command is called {typed!r}{hint}", style="red")
    lines = [f"  {name:<15} {command.__doc__}" for name, command in COMMANDS.items()]
    about = "hadamem: agents that remember. Usage: hadamem COMMAND [options]; `hadamem COMMAND --help` explains its options."
    more = "With any command, --debug (or HADAMEM_DEBUG=1 in the environment) shows the whole traceback of an error."
    out.print("\n".join([about, "", *lines, "", more]), markup=False, highlight=False, soft_wrap=True)
    raise SystemExit(0 if asked else 2)


if __name__ == "__main__":
    main()

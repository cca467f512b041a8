"""The commands `hadamem bench ...`. The measured modules are imported when a command is called, since that takes a while."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import tyro

from ..checks import check_fields
from ..memory import MEMORIES, memory_class
from ..networks.precision import Precision
from .console import make_table, print_rows, print_table, say, show_status, write_json


@dataclass
class Bench:
    """Measure on this machine."""

    json: pathlib.Path | None = None
    """file that the rows are also written to, as JSON"""


def bench_ops(arguments: Sequence[str]) -> None:
    """Measure every backend of the Hadamard recurrence against the released form"""
    from ..bench import ops

    options = tyro.cli(Bench, args=arguments, prog="hadamem bench ops")
    with show_status() as show:
        tables = ops.measure_all(show)
    for size in ops.SIZES:
        here = [row for row in tables.sizes if size == (row.B, row.T, row.H)]
        first = here[0]
        table = make_table(
            f"(B, T, H) = {size}: µs for one step of one row; faster and less memory than {first.backend}",
            ["backend", "forward", "of floor", "both ways", "of floor", "faster", "extra MB", "less memory"],
        )
        for row in here:
            cells = [f"{row.forward_us:.3f}", _times(row.forward_of_floor)]
            cells += [f"{row.forward_backward_us:.3f}", _times(row.forward_backward_of_floor)]
            cells += [f"{first.forward_backward_us / row.forward_backward_us:.1f}x"]
            if row.extra_mb is not None and first.extra_mb is not None:
                cells += [f"{row.extra_mb:.1f}", f"{first.extra_mb / max(row.extra_mb, 1e-3):.1f}x"]
            table.add_row(row.backend, *cells)
        print_table(table)
    if not any("jax" in row.backend for row in tables.sizes):
        say("JAX was not measured: that needs a checkout of the repository and pip install 'hadamem[bench]'")
    print_rows("how many times as fast all threads are as one", tables.threads)
    print_rows("memory of one pass of the kernels, and of one training step of a whole SHM", tables.memory)
    write_json(options.json, tables)


def _times(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.2f}x"


def bench_limit(arguments: Sequence[str]) -> None:
    """Measure what this processor can do, and the floor under the kernels"""
    from ..bench import limit, ops

    options = tyro.cli(Bench, args=arguments, prog="hadamem bench limit")
    with show_status() as show:
        rows = limit.measure_all(show)
    print_rows("limits (the kernels' own tanh and fused multiply-adds in the first-level cache)", rows)
    table = make_table("floor in µs for one step of one row", ["threads", "H", "forward", "forward + backward"])
    for row in rows:
        for H in sorted({size[2] for size in ops.SIZES}):
            floors = [limit.floor_us(row, H, *parts) for parts in ((limit.FORWARD,), (limit.FORWARD, limit.BACKWARD))]
            table.add_row(str(row.threads), str(H), *(f"{floor:.3f}" for floor in floors))
    print_table(table)
    write_json(options.json, rows)


@dataclass
class BenchTrain(Bench):
    """Measure whole training on this machine."""

    agent: Literal["ppo", "sac"] = "ppo"
    """environment steps per second of PPO, or gradient updates per second of SAC"""
    device: str = "cpu"
    """device that the networks run on: cpu, cuda, cuda:1, ..."""
    precision: Precision = "float32"
    """number format of products of matrices"""


def bench_train(arguments: Sequence[str]) -> None:
    """Measure the speed of training, see --agent"""
    from ..bench import train

    options = tyro.cli(BenchTrain, args=arguments, prog="hadamem bench train")
    with show_status() as show:
        rows = train.measure_all(options.agent, show, options.device, options.precision)
    print_rows(train.ABOUT[options.agent], rows)
    write_json(options.json, rows)


@dataclass
class BenchContention(Bench):
    """Measure training beside busy processes, relative to its fair share of the processors."""

    threads: tuple[Literal["1", "all", "default"], ...] = ("1", "all", "default")
    """numbers of threads: one, all processors, or those of a training without --threads"""
    neighbours: tuple[int, ...] = (0, 1, 2, 4)
    """numbers of busy processes; 0 is always among them"""
    seconds: float = 8.0
    """seconds of each measurement, of which there are 36 with the defaults"""
    rounds: int = 1
    """number of rounds; in each of them, everything is measured once, and what is told is the median"""


def bench_contention(arguments: Sequence[str]) -> None:
    """Measure training beside other busy processes"""
    from ..bench import contention, train

    options = tyro.cli(BenchContention, args=arguments, prog="hadamem bench contention")
    check_fields(options, ("neighbours",), at_least=0)
    check_fields(options, ("seconds",), above=0)
    check_fields(options, ("rounds",), at_least=1)
    with show_status() as show:
        rows = contention.measure_all(
            show, settings=options.threads, neighbours=options.neighbours, seconds=options.seconds, rounds=options.rounds
        )
    print_rows(f"{train.ABOUT['ppo']}, beside busy processes (neighbours)", rows)
    write_json(options.json, rows)


def bench_gpu(arguments: Sequence[str]) -> None:
    """Measure the Hadamard recurrence on a GPU"""
    import torch

    from ..bench import gpu

    options = tyro.cli(Bench, args=arguments, prog="hadamem bench gpu")
    with show_status() as show:
        rows = gpu.measure_all(show)
    print_rows(f"{torch.cuda.get_device_name()}: µs for one step of one row, and MB above the inputs", rows)
    write_json(options.json, rows)


@dataclass
class BenchProcesses(Bench):
    """Measure training by several processes together, with one thread each, compared with one process; see --processes of
    hadamem train."""

    processes: tuple[int, ...] = (2,)
    """numbers of processes to measure, in addition to 1"""
    memories: tuple[str, ...] = ("shm", "gru")
    """memories of the agents"""
    rounds: int = 3
    """number of rounds; in each of them, every number of processes is measured once"""


def bench_processes(arguments: Sequence[str]) -> None:
    """Measure training by several processes together"""
    from ..bench import processes

    options = tyro.cli(BenchProcesses, args=arguments, prog="hadamem bench processes")
    check_fields(options, ("rounds",), at_least=1)
    check_fields(options, ("processes",), at_least=2)
    with show_status() as show:
        found = processes.measure_all(show, memories=options.memories, processes=options.processes, rounds=options.rounds)
    print_rows("PPO, one thread in each process; the second environment waits 5 ms in every step", found)
    predicted = processes.predict(found, (2, 4, 8, 16, 64))
    print_rows("predicted from these: speed relative to one process, on as many processors of this kind", predicted)
    write_json(options.json, {"measured": found, "predicted": predicted})


@dataclass
class BenchEnvs(Bench):
    """Measure a step of environments in this process, in worker processes (see --env-workers of hadamem train), and in those of
    Gymnasium's AsyncVectorEnv; and a step with a policy that waits for all of them, or for some (see --env-wait)."""

    envs: tuple[str, ...] = ("hadamem.bench.envs:Sleeping", "hadamem.bench.envs:Uneven", "CartPole-v1")
    """ids of environments; by default, the first waits 5 ms in every step, and the second 5 ms on average"""
    num_envs: int = 8
    """number of copies of each environment"""
    workers: tuple[int, ...] = (2,)
    """numbers of worker processes to measure, in addition to 0 and the default number"""
    seconds: float = 3.0
    """approximate seconds of each measurement"""


def bench_envs(arguments: Sequence[str]) -> None:
    """Measure environments in worker processes"""
    from ..bench import envs

    options = tyro.cli(BenchEnvs, args=arguments, prog="hadamem bench envs")
    check_fields(options, ("num_envs",), at_least=2)
    check_fields(options, ("seconds",), above=0)
    with show_status() as show:
        rows, acting = envs.measure_all(show, options.envs, options.num_envs, options.workers, options.seconds)
    print_rows(f"one step of {options.num_envs} environments", rows)
    print_rows(f"one step of {options.num_envs} environments with a policy, on one thread", acting)
    write_json(options.json, {"steps": rows, "acting": acting})


def bench_compile(arguments: Sequence[str]) -> None:
    """Measure a policy with SHM under torch.compile"""
    from ..bench import compiled

    options = tyro.cli(Bench, args=arguments, prog="hadamem bench compile")
    with show_status() as show:
        rows = compiled.measure_all(show)
    print_rows("forward and backward of a policy over 8 rows of 128 steps", rows)
    write_json(options.json, rows)


@dataclass
class BenchMemories(Bench):
    """Measure memories on this machine."""

    memories: tuple[str, ...] = tuple(MEMORIES)
    """names of the memories"""

    def __post_init__(self) -> None:
        for name in self.memories:
            memory_class(name)


@dataclass
class Act(BenchMemories):
    """Measure a step of acting with memories at their default size, on one thread."""

    memories: tuple[str, ...] = ("shm", "gru", "lru", "gpt", "mlp")
    """names of the memories"""


def bench_act(arguments: Sequence[str]) -> None:
    """Measure a step of acting, and the policy's forward pass alone"""
    from ..bench import deploy

    options = tyro.cli(Act, args=arguments, prog="hadamem bench act")
    with show_status() as show:
        rows = deploy.measure_act(options.memories, show)
    print_rows("µs for a step on one thread, medians: agent.act, and the policy's forward pass and choice alone", rows)
    write_json(options.json, rows)


def bench_export(arguments: Sequence[str]) -> None:
    """Export a policy with every memory, and compare it with PyTorch"""
    from ..bench import deploy

    options = tyro.cli(BenchMemories, args=arguments, prog="hadamem bench export")
    with show_status() as show:
        rows = deploy.measure_export(options.memories, show)
    print_rows("largest difference from PyTorch over 200 steps with resets; a step in ONNX Runtime", deploy.shown(rows))
    write_json(options.json, rows)


@dataclass
class Recall(BenchMemories):
    """Train every memory on three toy tasks of recall, and compare the result with the expected one."""

    jobs: int = 1
    """number of memories that are trained at a time, each on one thread"""


def bench_recall(arguments: Sequence[str]) -> None:
    """Train every memory on three toy tasks of recall"""
    from ..studies import recall

    options = tyro.cli(Recall, args=arguments, prog="hadamem bench recall")
    with show_status() as show:
        rows = recall.measure_all(options.memories, options.jobs, show)
    about = "; ".join(f"{name}: {toy.about}" for name, (toy, _) in recall.TOYS.items())
    print_rows(f"accuracy after a short training, chance {1 / recall.toys.SYMBOLS} ({about})", recall.shown(rows))
    write_json(options.json, rows)


@dataclass
class Costs(BenchMemories):
    """Measure the cost of every memory at equal state size and at equal parameter count."""

    plot: pathlib.Path | None = None
    """picture (PNG) of the cost against the length of a sequence, which is then measured, too"""


def bench_memories(arguments: Sequence[str]) -> None:
    """Measure the cost of every memory with resets, and of torch.nn.GRU without"""
    from ..bench import memories

    options = tyro.cli(Costs, args=arguments, prog="hadamem bench memories")
    with show_status() as show:
        tables = memories.measure_all(options.memories, options.plot is not None, show)
    for title, rows in memories.shown(tables).items():
        print_rows(title, rows)
    write_json(options.json, tables)
    if options.plot is not None:
        memories.draw_lengths(tables.lengths, options.plot)
        say(f"picture written to {options.plot}")


@dataclass
class Returns(BenchMemories):
    """Train PPO with every memory, and compare the returns. If started again, it continues the runs that are there."""

    out: pathlib.Path = pathlib.Path("runs/returns")
    """folder of the run folders"""
    steps: int = 300_000
    """environment steps of each run"""
    jobs: int = 1
    """number of memories that are trained at a time, each on one thread"""


def bench_returns(arguments: Sequence[str]) -> None:
    """Train PPO with every memory, and compare the returns"""
    from ..studies import returns

    options = tyro.cli(Returns, args=arguments, prog="hadamem bench returns")
    with show_status() as show:
        rows = returns.measure_all(options.memories, options.out, options.steps, options.jobs, show)
    print_rows(f"PPO on {returns.ENV}: returns lie between -1 and 1", returns.shown(rows))
    write_json(options.json, rows)

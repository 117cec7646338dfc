"""Runs a program in several processes, the ranks of ``torch.distributed``, and ends them all.

``torchrun`` starts new Pythons, as the command of this name does. ``run`` gives the same variables
to processes that have torch already, which start in a fraction of a second. Both print what the
ranks printed, and raise a ``RankError`` that names rank and cause.
"""

from __future__ import annotations

import contextlib
import faulthandler
import functools
import importlib.util
import json
import multiprocessing
import os
import pickle
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing import connection
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import torch
import torch.distributed as dist

INTERFACE = "GLOO_SOCKET_IFNAME"
GRACE = 0.3  # seconds in which ranks are heard that fail after the first one
#: without it, ranks that are restarted read the addresses of the ended ones (pytorch issue 135712)
OWN_STORE = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
#: what most programs import; torch._dynamo takes longest, and the first optimizer imports it
PRELOADED = ["helpers.ranks", "torch._dynamo", "torch.profiler"]
PRELOADED += ["torch.nn.parallel", "torch.distributed.checkpoint.state_dict"]
LONGEST_FOLDER = 60  # bytes; the socket of forkserver lies in it, and its path may have 103


class RankError(RuntimeError):
    """A rank failed, or still ran when its time was over. ``rank`` is its number."""

    def __init__(self, message: str, rank: int):
        super().__init__(message)
        self.rank = rank


class Rank(NamedTuple):
    """What the function that was called returned in a rank, and what the rank printed."""

    value: Any
    printed: str


class Finished(NamedTuple):
    """What the ranks printed, each line with its rank in front, and the seconds it took."""

    printed: str
    seconds: float


def run(program: str | Path, ranks: int = 2, **options: Any) -> list[Any]:
    """What the function ``call`` returned in each rank; the options are those of ``observed``."""
    return [rank.value for rank in observed(program, ranks, **options)]


def observed(
    program: str | Path,
    ranks: int = 2,
    *,
    call: str | None = None,
    arguments: Sequence[Any] = (),
    seconds: float = 30,
    quiet: bool = False,
) -> list[Rank]:
    """Run a program in processes with RANK, LOCAL_RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT.

    ``program`` is the path of a script, or its text; ``arguments`` become its ``sys.argv``. With
    ``call``, the script is imported, and its function of this name is called with them. Then its
    process group is destroyed, if there still is one. What the function returns comes back:
    tensors, numbers, strings, and dicts, lists and tuples of these. Each rank has one thread of
    torch. ``quiet`` does not print what the ranks print.

    The ranks are forked from a server that has imported torch (``forkserver``), or are new Pythons
    where there is no such server. They meet at a store of this process, which has its port before
    they start and listens on 127.0.0.1 alone. Raises ``RankError`` for a rank that fails, and if
    one still runs after ``seconds``. Then, and on an interrupt, all ranks are ended.
    """
    context = _context()
    with _group(program, ranks, seconds, quiet) as group, _store() as port:
        shared = {"MASTER_PORT": str(port), "TORCHELASTIC_USE_AGENT_STORE": "True"}
        sent = pickle.dumps(tuple(arguments))  # by value: multiprocessing shares a tensor's memory
        processes = []
        try:
            for rank in range(ranks):
                own = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(ranks)}
                environment = {**os.environ, **_SURROUNDINGS, **shared, **own}
                facts = (group.facts, call, sent, environment)
                process = context.Process(target=_be_a_rank, args=facts)
                with _starting(context):
                    process.start()
                processes.append(process)
            codes = group.wait(processes)
        finally:
            for process in processes:
                _kill(process.pid)
                process.kill()  # where it has no group of its own yet
                process.join()
        group.raise_failure(codes)
        return [Rank(group.value(rank), group.text(rank, "printed")) for rank in range(ranks)]


def torchrun(
    program: str | Path,
    ranks: int = 2,
    *,
    arguments: Sequence[Any] = (),
    seconds: float = 60,
    restarts: int = 0,
    environment: Mapping[str, str] | None = None,
) -> Finished:
    """Run a script as ``torchrun --standalone --nproc-per-node RANKS`` does, in new Pythons.

    ``restarts`` is its ``--max-restarts``: when a rank fails, all are ended and start again.
    ``environment`` is added to this process's. Raises ``RankError`` as ``observed`` does. While
    the program runs, torchrun's store listens on all interfaces of the machine; no option changes
    that. The messages between ranks take the loopback interface.
    """
    begun = time.monotonic()
    own_store = OWN_STORE if restarts else {}
    with _group(program, ranks, seconds) as group:
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command += ["--local-addr=127.0.0.1", f"--nproc-per-node={ranks}"]
        command += [f"--max-restarts={restarts}", "--monitor-interval=0.1"]
        command += [f"--log-dir={group.folder}", __file__]
        with (group.folder / "agent.txt").open("wb") as file:
            agent = subprocess.Popen(
                [*command, json.dumps(group.facts), *map(str, arguments)],
                env={**os.environ, **_SURROUNDINGS, **own_store, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=file,
                start_new_session=True,
            )
        try:
            report = group.wait_for(agent)
        finally:
            for rank in range(ranks):
                _kill(int(group.text(rank, "pid") or 0))
            _kill(agent.pid)
            agent.wait()
        if agent.returncode:
            group.raise_failure(_codes_in(report))
            raise RankError(f"torchrun failed: {report[-2000:]}", 0)
        return Finished(group.printed(), time.monotonic() - begun)


class _Group:
    """The ranks of one run. Each tells in files what it does: its number, a dot, what it tells."""

    def __init__(self, program: Path, folder: Path, ranks: int, seconds: float):
        self.program, self.folder, self.ranks, self.seconds = program, folder, ranks, seconds
        self.until = time.monotonic() + seconds
        self.facts = {"program": str(program), "folder": str(folder), "cwd": os.getcwd()}
        self.facts["parent"] = os.getpid()

    def wait(self, processes: Sequence[Any]) -> dict[int, int]:
        """Wait until all have ended, or one has failed; exit codes, the first to end first."""
        running = {process.sentinel: rank for rank, process in enumerate(processes)}
        codes, until = {}, self.until
        while running and (left := until - time.monotonic()) > 0:
            for sentinel in connection.wait([*running], left):
                rank = running.pop(sentinel)
                processes[rank].join()
                codes[rank] = processes[rank].exitcode
                if codes[rank]:
                    until = min(until, time.monotonic() + GRACE)
        self._ask([processes[rank].pid for rank in running.values()])
        return codes

    def wait_for(self, agent: subprocess.Popen) -> str:
        """Wait until torchrun has ended; what it reports."""
        try:
            agent.wait(max(0, self.until - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._ask([int(self.text(rank, "pid") or 0) for rank in range(self.ranks)])
        return (self.folder / "agent.txt").read_text("utf-8", "replace")

    def _ask(self, pids: Sequence[int]) -> None:
        """Have ranks that still run write where they are."""
        if pids and hasattr(signal, "SIGUSR1"):
            for pid in filter(None, pids):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGUSR1)
            time.sleep(0.1)

    def raise_failure(self, codes: Mapping[int, int]) -> None:
        """Raise what is to be said if not every rank has done its work."""
        states = [self._state(rank, codes.get(rank)) for rank in range(self.ranks)]
        if all(state["ended"] == "returned" for state in states):
            return
        order = dict.fromkeys([*codes, *range(self.ranks)])
        failed = [rank for rank in order if "time" in states[rank]]
        if not failed:
            told = "; ".join(f"rank {rank} {state['ended']}" for rank, state in enumerate(states))
            stuck = [r for r in range(self.ranks) if states[r]["ended"] != "returned"]
            raise RankError(
                f"not done after {self.seconds:g} s: {told}. A collective ends when every rank has "
                "called it: look which rank left one out, or called another one",
                stuck[0],
            )
        # Not the cause: a rank that fails for want of a partner, or that torchrun ends for another.
        first = min(failed, key=lambda rank: (states[rank]["echo"], states[rank]["time"]))
        others = [f"rank {r} {state['ended']}" for r, state in enumerate(states) if r != first]
        told = f" ({'; '.join(others)})" if others else ""
        trace = states[first].get("trace", "")
        message = f"rank {first} of {self.ranks} {states[first]['ended']}{told}"
        raise RankError(f"{message}\n{trace}".rstrip(), first)

    def _state(self, rank: int, code: int | None) -> dict[str, Any]:
        """How a rank ended; of one that failed, when."""
        state = json.loads(self.text(rank, "ended") or "{}")
        if state and not (code and "time" not in state):
            return state
        if code:
            how = f"left with exit code {code}"
            if code < 0:
                how = f"was ended by signal {-code} ({signal.Signals(-code).name})"
            return {"ended": how, "time": 0, "echo": code == -signal.SIGTERM}
        # faulthandler writes nothing but ASCII
        name = re.escape(str(self.program).encode("ascii", "backslashreplace").decode())
        if place := re.search(rf'File "{name}", line (\d+)', self.text(rank, "asked")):
            line = self.program.read_text("utf-8").splitlines()[int(place[1]) - 1].strip()
            return {"ended": f"waited at line {place[1]}: `{line}`"}
        return {"ended": "was still running"}

    def text(self, rank: int, told: str) -> str:
        file = self.folder / f"{rank}.{told}"
        return file.read_text("utf-8", "replace") if file.exists() else ""

    def printed(self) -> str:
        ranks = ((rank, self.text(rank, "printed").splitlines()) for rank in range(self.ranks))
        return "".join(f"[rank {rank}] {line}\n" for rank, lines in ranks for line in lines)

    def value(self, rank: int) -> Any:
        file = self.folder / f"{rank}.value"
        try:
            return torch.load(file) if file.exists() else None
        except pickle.UnpicklingError as error:
            raise TypeError(
                f"rank {rank} returned what can't be sent: return tensors, numbers, strings, and "
                f"dicts, lists or tuples of these ({str(error).splitlines()[0]})"
            ) from None


@contextlib.contextmanager
def _group(
    program: str | Path, ranks: int, seconds: float, quiet: bool = False
) -> Iterator[_Group]:
    if ranks < 1:
        raise ValueError(f"ranks is the number of processes, at least 1; got {ranks}")
    with tempfile.TemporaryDirectory(
        prefix=f"ranks-{os.getpid()}-", ignore_cleanup_errors=True
    ) as name:
        if "\n" in str(program):
            path = Path(name, "program.py")
            path.write_text(str(program), "utf-8")
        elif not (path := Path(program).resolve()).is_file():
            raise FileNotFoundError(f"no program at {path}: give the path of a script, or its text")
        group = _Group(path, Path(name), ranks, seconds)
        try:
            yield group
        finally:
            if not quiet:
                known = getattr(sys.stdout, "encoding", None) or "utf-8"
                printed = group.printed().encode(known, "backslashreplace").decode(known)
                print(printed, end="")


@contextlib.contextmanager
def _store() -> Iterator[int]:
    """The port of a store in this process. By itself, torch's store listens on all interfaces."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        port = listening.getsockname()[1]
        options = {"is_master": True, "wait_for_workers": False}
        store = dist.TCPStore("127.0.0.1", port, **options, master_listen_fd=listening.detach())
    try:
        yield port
    finally:
        del store  # closes it, also while an error keeps this frame


@functools.cache
def _context() -> Any:
    """Forkserver with torch, or spawn where the system has none or can't make its socket."""
    usable = "forkserver" in multiprocessing.get_all_start_methods()
    if not usable or len(os.fsencode(tempfile.gettempdir())) > LONGEST_FOLDER:
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    first = context.Process(target=int)  # its end shows that the server has imported torch
    with _starting(context):
        first.start()
    first.join()
    return context


@functools.cache
def _server() -> Any:
    """A server of our own: that of multiprocessing may run already, without what ranks need."""
    from multiprocessing.forkserver import ForkServer

    server = ForkServer()
    server.set_forkserver_preload(PRELOADED)
    return server


@contextlib.contextmanager
def _starting(context: Any) -> Iterator[None]:
    """Start processes from our server, and without the main program, which they would run again."""
    with contextlib.ExitStack() as stack:
        stack.callback(sys.modules.__setitem__, "__main__", sys.modules["__main__"])
        sys.modules["__main__"] = ModuleType("__main__")
        if context.get_start_method() == "forkserver":
            from multiprocessing import forkserver

            connect = forkserver.connect_to_new_process
            stack.callback(setattr, forkserver, "connect_to_new_process", connect)
            forkserver.connect_to_new_process = _server().connect_to_new_process
        yield


def loopback() -> dict[str, str]:
    """The variable that keeps gloo on the loopback interface, where its name is known."""
    names = [name for _, name in socket.if_nameindex()] if os.name == "posix" else []
    return dict([(INTERFACE, name) for name in ("lo", "lo0") if name in names][:1])


_SURROUNDINGS = {"MASTER_ADDR": "127.0.0.1", "OMP_NUM_THREADS": "1", **loopback()}


def _codes_in(report: str) -> dict[int, int]:
    """The exit codes of ranks that failed; torchrun reports the first failure last."""
    found = re.findall(r"rank\s*: (\d+) .*\n\s*exitcode\s*: (-?\d+)", report)
    return {int(rank): int(code) for rank, code in reversed(found)}


def _kill(pid: int) -> None:
    """End a process that leads its own group, and what it started."""
    with contextlib.suppress(OSError):  # Windows has another one for a process that has ended
        if pid and hasattr(os, "killpg"):
            os.killpg(pid, signal.SIGKILL)
        elif pid:
            os.kill(pid, signal.SIGTERM)


# In a rank


def _be_a_rank(
    facts: Mapping[str, Any], call: str | None, sent: bytes, environment: Mapping[str, str]
) -> None:
    os.environ.clear()
    os.environ.update(environment)
    if hasattr(os, "setsid"):
        os.setsid()
    _tell(facts, call, sent)


def _tell(facts: Mapping[str, Any], call: str | None, sent: bytes) -> None:
    """Run the program and write how it ends; ends this process."""
    own = Path(facts["folder"], os.environ["RANK"])
    own.with_suffix(".ended").unlink(missing_ok=True)
    own.with_suffix(".pid").write_text(str(os.getpid()))
    printed = os.open(own.with_suffix(".printed"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for number, stream in enumerate((sys.stdout, sys.stderr), 1):
        os.dup2(printed, number)
        stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)
    if hasattr(faulthandler, "register"):
        asked = own.with_suffix(".asked").open("w")
        faulthandler.register(signal.SIGUSR1, asked, all_threads=False)
    threading.Thread(target=_leave_with, args=[facts], daemon=True).start()
    torch.set_num_threads(1)
    os.chdir(facts["cwd"])
    sys.path[:0] = [str(Path(facts["program"]).parent)]
    state = {"ended": "returned"}
    try:
        arguments = pickle.loads(sent)
        sys.argv = [facts["program"], *map(str, arguments)]
        value = _value(facts["program"], call, arguments)
        if call:
            torch.save(value, own.with_suffix(".value"))
    except SystemExit as left:
        if left.code:
            state = {"ended": f"left by sys.exit({left.code!r})", "time": time.time()}
    except BaseException as error:
        said = f"{type(error).__name__}: {error}"
        frames = traceback.format_list(_frames_of(facts["program"], error))
        state = {"ended": f"raised {said}", "trace": "".join(frames) + said, "time": time.time()}
        print(said, file=sys.stderr)
    state["echo"] = "closed by peer" in state["ended"] or "reset by peer" in state["ended"]
    own.with_suffix(".ended").write_text(json.dumps(state), "utf-8")
    sys.stdout.flush()
    sys.stderr.flush()
    if "time" in state:
        os._exit(1)


def _value(program: str, call: str | None, arguments: tuple) -> Any:
    name = Path(program).stem if call else "__main__"  # by its name, workers import it
    spec = importlib.util.spec_from_file_location(name, program)
    module = importlib.util.module_from_spec(spec)
    module.__spec__ = None if name == "__main__" else spec  # as in a script
    sys.modules[name] = module
    sys.dont_write_bytecode = True
    spec.loader.exec_module(module)
    if not call:
        return None
    value = getattr(module, call)(*arguments)
    if dist.is_initialized():
        dist.destroy_process_group()
    return value


def _frames_of(program: str, error: BaseException) -> list[traceback.FrameSummary]:
    """The frames of an error from the program's first one on."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [number for number, frame in enumerate(frames) if frame.filename == program]
    return frames[own[0] :] if own else frames


def _leave_with(facts: Mapping[str, Any]) -> None:
    """End this process when the one that started it has gone, or that one's parent."""
    starter = os.getppid()
    while os.getppid() == starter and _lives(facts["parent"]):
        time.sleep(0.25)
    if not _lives(facts["parent"]):  # who would remove it
        shutil.rmtree(facts["folder"], ignore_errors=True)
    _kill(os.getpid())


def _lives(pid: int) -> bool:
    if os.name == "nt":  # where signal 0 ends a process
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


if __name__ == "__main__":  # a rank of torchrun
    here = Path(__file__).resolve().parent  # where data.py would be taken for the program's own
    sys.path[:] = [place for place in sys.path if not place or Path(place).resolve() != here]
    _tell(json.loads(sys.argv[1]), None, pickle.dumps(tuple(sys.argv[2:])))

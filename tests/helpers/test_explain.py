"""What ``python -m helpers explain`` answers: every message that is known, and none that is not."""

import io
import re
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest

from helpers import __main__ as command
from helpers import checkout, explain
from tools.claims import claims

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = checkout.root()
SHOWN = tomllib.loads(Path(__file__).with_name("shown_messages.toml").read_text("utf-8"))
PUBLIC = tomllib.loads(Path(__file__).with_name("public_messages.toml").read_text("utf-8"))
FILLED = ["torch.Size([64, 3, 7, 7])", r"C:\work\new\train.py"]
MATMUL = "RuntimeError: mat1 and mat2 shapes cannot be multiplied (3x4 and 5x6)"
UNKNOWN = [
    "KeyError: 'lr'",
    "ZeroDivisionError: division by zero",
    "NameError: name 'model' is not defined",
    "AttributeError: 'NoneType' object has no attribute 'shape'",
    "IndexError: list index out of range",
    "ModuleNotFoundError: No module named 'pandas'",
    "TypeError: unsupported operand type(s) for +: 'int' and 'str'",
    "ValueError: The truth value of a Series is ambiguous. Use a.empty, a.bool() or a.item().",
    "ValueError: operands could not be broadcast together with shapes (3,) (4,)",
    "SettingWithCopyWarning: A value is trying to be set on a copy of a slice from a DataFrame",
    "my model does not learn",
    "ModuleNotFoundError: No module named 'torchmetrics'",
    "ImportError: cannot import name 'url' from 'django.conf.urls'",
    "TypeError: __init__() missing 1 required positional argument: 'on_delete'",
    "TypeError: my_function() takes 2 positional arguments but 3 were given",
    "AttributeError: 'DataFrame' object has no attribute 'append'",
    "AttributeError: 'numpy.ndarray' object has no attribute 'append'",
    "ValueError: shapes (3,4) and (3,) not aligned: 4 (dim 1) != 3 (dim 0)",
    "TypeError: only size-1 arrays can be converted to Python scalars",
    "ValueError: Expected 2D array, got 1D array instead: array=[1. 2.].",
    "ValueError: Failed to convert a NumPy array to a Tensor (Unsupported object type float).",
    'ValueError: Input 0 of layer "dense" is incompatible with the layer: expected axis -1',
    "RecursionError: maximum recursion depth exceeded while calling a Python object",
    "error[E0382]: borrow of moved value: `s`",
    "ld.lld: error: undefined symbol: foo",
    "TypeError: Cannot read properties of undefined (reading 'map')",
    "docker: Error response from daemon: Conflict. The container name is already in use",
    "RuntimeError: dictionary changed size during iteration",
    "RuntimeError: Event loop is closed",
    "RuntimeError: Working outside of application context.",
    "RuntimeError: Attempting to capture an EagerTensor without building a function.",
    "ValueError: x and y must have same first dimension, but have shapes (5,) and (4,)",
    "ValueError: Found array with 0 sample(s) (shape=(0, 4)) while a minimum of 1 is required.",
    "InvalidArgumentError: Incompatible shapes: [32,10] vs. [32,1]",
    "OSError: [WinError 5] Access is denied: 'C:\\x'",
    "AttributeError: 'list' object has no attribute 'split'",
    "ImportError: attempted relative import with no known parent package",
    "TypeError: __init__() missing 1 required positional argument",
    "AttributeError: 'list' object has no attribute",
    "TypeError: unsupported operand type(s) for /:",
    "TypeError: float() argument must be a string or a real number, not 'complex'",
    "TypeError: 'float' object cannot be interpreted as an integer",
    "TypeError: my_collate() missing 1 required keyword-only argument: 'pad'",
    "ValueError: Invalid backend: loky, expected one of ['threading', 'multiprocessing']",
    "ValueError: n_clusters must be a positive integer, got 0",
    "ValueError: figsize should be a sequence of length 2.",
    "TypeError: can't convert complex to float",
    "KeyError: 'fill'",
    "AttributeError: 'Config' object has no attribute 'defaults'",
    "ValueError: degrees of freedom must be a positive number",
    "ValueError: n_splits=5 cannot be greater than the number of members in each class.",
    "AttributeError: module 'tensorflow' has no attribute 'Session'",
    "TypeError: argument of type 'method' is not iterable",
    "assert failed: the group was not gathered",
    "TypeError: ForeignKey.__init__() missing 1 required positional argument: 'on_delete'",
    "TypeError: Foo.__init__() takes 1 positional argument but 2 were given",
    "TypeError: transform() takes 2 positional arguments but 3 were given",
    "TypeError: crop() missing 1 required positional argument: 'box'",
    "TypeError: 'Foo' object does not support item assignment",
    "TypeError: 'Foo' object is not iterable",
    "TypeError: 'tuple' object is not callable",
    "TypeError: iter() returned non-iterator of type 'list'",
    "TypeError: list indices must be integers or slices, not float",
    "TypeError: bad operand type for unary -: 'str'",
    "AttributeError: 'list' object has no attribute 'items'",
    "AttributeError: 'int' object has no attribute 'items'",
    "AttributeError: 'Url' object has no attribute 'lr'",
    "AttributeError: 'User' object has no attribute 'training'",
    "AttributeError: 'NoneType' object has no attribute 'group'",
    "AttributeError: 'list' object has no attribute 'keys'",
    "IndexError: tuple index out of range",
    "ValueError: slice step cannot be zero",
    "ValueError: min_size must be >= max_size of the pool",
    "ValueError: quality must be positive",
    "ValueError: The provided policy document is not valid",
    "ValueError: mode RGBX is unknown",
    "ValueError: target out of range for the plot",
    "ValueError: Rank 5 is out of range of the ranking",
    "ValueError: No image found in the sample",
    "ValueError: could not convert string to float: 'abc'",
    "ValueError: invalid literal for int() with base 10: 'a'",
    "KeyError: 'boxes'",
    "KeyError: 'params'",
    "ZeroDivisionError: integer modulo by zero",
    "StopIteration",
    "EOFError",
    "NotImplementedError",
    "AttributeError: module 'packaging' has no attribute 'version'",
    "AttributeError: 'Order' object has no attribute 'total'",
    "FileNotFoundError: cl is not recognized as an internal or external command",
    "IndexError: pop index out of range",
    "IndexError: list assignment index out of range",
    "AttributeError: module 'tensorflow' has no attribute 'gfile'",
    "FloatingPointError: overflow encountered in multiply",
    "RuntimeError: Compiler: rustc is not found",
    "ValueError: could not broadcast input array from shape (3,) into shape (4,)",
    "ModuleNotFoundError: No module named 'google.protobuf'",
    "TypeError: 'Composer' object is not iterable",
    "OSError: file not found: archive.zip",
    "TypeError: open() argument 'mode' must be str, not int",
    "TypeError: expected str, bytes or os.PathLike object, not int",
    "ImportError: cannot import name 'parse' from 'pkg_resources'",
    "ValueError: Expected positive integer, got 0",
    "warning: directory exists, did you set the step?",
    "ModuleNotFoundError: No module named 'caffe'",
    "NotImplementedError: Caught NotImplementedError in handler",
    "RuntimeError: No checks were recorded for this account.",
    "AssertionError: len of header must be equal to the number of rows",
    "TypeError: Expected an image of size (C, H, W)",
    "AttributeError: 'numpy.ndarray' object has no attribute 'crop'",
    "TypeError: value should be Url or str. Got <class 'NoneType'>.",
    "ValueError: The grid should be 2/3 dimensional. Got 4 dimensions.",
    "ValueError: Color should not have > 4 channels. Got 5 channels.",
    "RuntimeError: Default user group has not been initialized, please call init_user_group.",
    "ValueError: permitted channel values are a, b, but found c",
]


def named(text):
    """The name of the entry that answers a text; None where none does."""
    entry = explain.find(text)
    return entry and entry.name


def sections_of(stem):
    """The headings of a notebook, as they are written."""
    nb = nbformat.read(ROOT / "notebooks" / f"{stem}.ipynb", as_version=4)
    prose = "\n".join(cell.source for cell in nb.cells if cell.cell_type == "markdown")
    return set(re.findall(r"^#+ +(.*?)\s*$", prose, re.MULTILINE))


# The entries


@pytest.mark.parametrize("entry", explain.entries(), ids=lambda entry: entry.name)
def test_an_entry_is_found_by_each_of_its_wordings_whatever_stands_in_the_gaps(entry):
    wordings = (entry.message, *entry.also)
    for said in {w.replace("…", filled) for w in wordings for filled in FILLED}:
        assert named(f"{entry.type}: {said}") == entry.name, said


def test_colours_of_a_terminal_do_not_count():
    coloured = MATMUL.replace("RuntimeError", "\x1b[31mRuntimeError\x1b[39m")
    assert named(coloured.replace("shapes", "\x1b[1mshapes\x1b[0m")) == "matmul-shapes"


def test_each_wording_belongs_to_one_entry():
    wordings = [explain.normalised(w) for e in explain.entries() for w in {e.message, *e.also}]
    assert len(wordings) == len(set(wordings))


def test_an_entry_says_why_and_what_helps_in_few_sentences():
    for said in (said for entry in explain.entries() for said in (entry.cause, entry.fix)):
        in_words = re.sub(r"`[^`]*`", "code", said)
        assert re.search(r"[.!]$", said) and said.count("`") % 2 == 0, said
        assert 1 <= len(re.findall(r"[.!](?:\s|$)", in_words)) <= 3, said
        assert len(said) < 320, said


def test_the_sections_that_entries_name_exist():
    places = [place.split("#", 1) for entry in explain.entries() for place in entry.where]
    headings = {stem: sections_of(stem) for stem in {stem for stem, _ in places}}
    assert [place for place in places if place[1] not in headings[place[0]]] == []


# What the chapters show


def test_every_message_that_a_chapter_expects_is_in_the_table_of_those_shown():
    missing = [
        claim
        for claim in claims(ROOT)
        if claim.match
        and not any(
            " ".join(claim.match.split()) in said
            for said in SHOWN.get(claim.chapter, {}).get(claim.section, [])
        )
    ]
    assert missing == [], "add what these cells print to tests/helpers/shown_messages.toml"


@pytest.mark.parametrize(
    ("place", "said"),
    [
        (f"{stem}#{section}", said)
        for stem, by_section in SHOWN.items()
        for section, messages in by_section.items()
        for said in messages
    ],
)
def test_a_message_that_a_chapter_shows_is_answered_by_an_entry_that_leads_there(place, said):
    entry = explain.find(said)
    assert entry is not None
    assert place in entry.where


# What people post


@pytest.mark.parametrize(
    ("name", "said"),
    [(name, said) for name, messages in PUBLIC.items() for said in messages],
)
def test_a_message_from_a_public_report_gets_the_answer_that_fits_it(name, said):
    assert named(said) == name


@pytest.mark.parametrize("said", UNKNOWN)
def test_what_is_not_about_torch_is_said_to_be_unknown(said):
    is_known, text = explain.answer(said)
    assert not is_known and text.startswith("Not known here.")


def test_an_unknown_last_error_is_not_answered_by_a_known_one_above_it():
    chain = f"{MATMUL}\n\nDuring handling of the above exception, another exception occurred:\n\n"
    assert named(chain + "Traceback (most recent call last):\nKeyError: 'lr'") is None
    assert named(f"KeyError: 'lr'\n\n{chain}") == "matmul-shapes"


def test_an_error_is_answered_and_not_what_a_launcher_or_a_warning_says_below_it():
    log = (
        "E0627 23:26:46 torch/distributed/elastic/multiprocessing/api.py:826] failed (exitcode: 1)"
    )
    child = "torch.distributed.elastic.multiprocessing.errors.ChildFailedError: \ntrain.py FAILED"
    leaked = (
        "/lib/resource_tracker.py:7: UserWarning: There appear to be 7 leaked semaphore objects"
    )
    for below in (log, child, f"{log}\n{child}", leaked, f"[rank0]: {child}"):
        assert named(f"[rank0]: {MATMUL}\n{below}") == "matmul-shapes"
    assert named(f"[rank0]: {MATMUL}{child}") == "matmul-shapes"
    assert named(child) == "child-failed"
    assert named(leaked) == "native-crash"


def test_a_frame_of_cpp_is_no_error_of_its_own():
    frame = "frame #0: c10::Error::Error(c10::SourceLocation, std::string) + 0x96 (0x7fffd7377f86)"
    said = "Watchdog caught collective operation timeout: WorkNCCL(SeqNum=58) ran for 600076 ms"
    assert named(f"[E ProcessGroupNCCL.cpp:1515] [Rank 1] {said}\n{frame}") == "distributed-wait"


def test_what_a_worker_raised_is_answered_and_not_what_the_loader_says_of_it():
    caught = "RuntimeError: Caught RuntimeError in DataLoader worker process 0.\n"
    inner = 'Original Traceback (most recent call last):\n  File "D:\\new\\a.py", line 2, in f\n'
    assert named(caught) == "worker-raised"
    assert named(caught + inner + MATMUL) == "matmul-shapes"


def test_a_message_is_found_without_its_type_and_with_other_quotes_and_line_breaks():
    assert named("Target size (torch.Size([3])) must be the\nsame as input size") == "bce-sizes"
    assert named("Detected call of 'lr_scheduler.step()' before 'optimizer.step()'") == (
        "scheduler-first"
    )
    assert named("shape ‘[3]’ is invalid for input of size 4") == "view-size"


def test_a_wording_begins_and_ends_where_a_word_does():
    assert named("AttributeError: type object 'Net' has no attribute 'to'") == "class-not-built"
    assert named("AttributeError: 'NoneType' object has no attribute 'to'") == "none"
    assert named("ModuleNotFoundError: No module named 'torch'") == "torch-missing"
    assert named("ModuleNotFoundError: No module named 'torch._six'") == "version-name"
    assert named("ModuleNotFoundError: No module named 'torch_geometric'") is None


def test_what_stands_above_a_message_is_asked_where_the_message_says_too_little():
    line = "    model.load_state_dict(checkpoint['net'])\nKeyError: 'net'"
    assert named(line) == "checkpoint-key"
    assert named("KeyError: 'net'") is None
    assert named(f"{line}\n\nDuring handling of the above exception\nKeyError: 'lr'") is None


def test_a_general_entry_answers_by_type_and_place_where_no_wording_fits():
    frame = '  File "D:\\env\\site-packages\\torch\\nn\\init.py", line 7, in f\n'
    assert named("RuntimeError: new_layer: expected shape 3") == "of-shapes"
    assert named("ValueError: new_layer: expected shape 3") is None
    assert named(f"{frame}ValueError: gain must be positive") == "of-arguments"
    assert named("ValueError: gain must be positive") is None
    assert named(f"{frame}{MATMUL}") == "matmul-shapes"


def test_a_transform_of_ones_own_may_raise_without_a_message():
    frame = '  File "/env/torchvision/transforms/v2/_transform.py", line {}, in {}\n    {}\n'
    for name in ("transform", "_transform"):
        lacks = frame.format(55, name, "raise NotImplementedError") + "NotImplementedError"
        assert named(lacks) == "transform-method"
    call = frame.format(69, "<listcomp>", "self.transform(inpt, params)")
    own = '  File "own.py", line 3, in transform\n    raise NotImplementedError\n'
    assert named(f"{call}{own}NotImplementedError") != "transform-method"


def test_frames_tell_what_a_short_message_is_about():
    frame = '  File "/env/site-packages/torch/{}", line 7, in {}\n    {}\n'
    rate = frame.format("optim/adam.py", "__init__", "if not 0.0 <= betas[0] < 1.0:")
    assert named(f"{rate}TypeError: 'float' object is not subscriptable") == "invalid-rate"
    environ = "in __getitem__\n    raise KeyError(key) from None\nKeyError: 'RANK'"
    assert named(environ) == "distributed"
    assert named("    device = next(self.parameters()).device\nStopIteration") == "no-parameters"
    assert named("    batch = next(batches)\nStopIteration") == "loader-next"
    pair = frame.format("nn/functional.py", "cosine_embedding_loss", "return torch.f(x)")
    many = "RuntimeError: 0D or 1D target tensor expected, multi-target not supported"
    assert (named(f"{pair}{many}"), named(many)) == ("pairs", "multi-target")
    shape = "    n = x.shape[2]\nIndexError: tuple index out of range"
    assert named(shape) == "dimension-range"


def test_a_frame_of_the_compiler_in_a_program_that_compiles_nothing_does_not_count():
    frame = '  File "/env/site-packages/torch/{}", line 7, in {}\n    return fn(*args)\n'
    said = "ValueError: an unheard-of check"
    last = frame.format("optim/optimizer.py", "add_param_group")
    wrapped, compiled = "_fn", "compile_wrapper"
    assert named(frame.format("_dynamo/eval_frame.py", wrapped) + last + said) == "in-optimizer"
    assert named(frame.format("_dynamo/eval_frame.py", compiled) + last + said) == "in-compile"


def test_an_apostrophe_within_the_quotes_of_a_key_error_does_not_count():
    assert named("KeyError: 'module name can\\'t contain \".\", got: a.b'") == "module-name"


def test_a_message_that_is_cut_off_is_found_if_one_entry_goes_on_like_it():
    types = "Input type (torch.FloatTensor) and weight type (torch.cuda.FloatTensor) sho"
    assert named(f"{types}...") == "input-and-weight"
    assert named("DataLoader with IterableDataset: expected unspecified") == "loader-exclusive"
    assert named("param 'initial_lr' is not specified in param_groups[0]") == "initial-lr"
    assert named("param 'initial_lr' is not specified in the file of settings") is None
    assert named(f"My {types}...") is None  # begins with something else
    assert named("DataLoader with Iterable") is None  # too short
    assert named("Using a target size (7) that is different to the") is None  # of two entries


def test_numbers_do_not_count_where_the_wording_has_its_own():
    said = "Error: too many indices for array: array is 2-dimensional, but 3 were indexed"
    assert named(said) == "hparams-scalar"


# The command


def test_the_command_answers_from_its_arguments_and_from_standard_input(monkeypatch, capsys):
    assert command.main(["explain", *MATMUL.split()]) == 0
    from_arguments = capsys.readouterr().out
    assert "in_features" in from_arguments
    assert "See: notebooks/00_start_here.ipynb: When an error is raised" in from_arguments
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"Traceback\n  x\n{MATMUL}\n"))
    assert command.main(["explain"]) == 0
    assert capsys.readouterr().out == from_arguments


def test_the_command_names_the_nearest_where_nothing_is_known(capsys):
    assert command.main(["explain", "ValueError: optimizer parameters of a list"]) == 1
    assert "The nearest are:" in capsys.readouterr().out
    assert command.main(["explain", "zzz"]) == 1
    assert capsys.readouterr().out == "Not known here.\n"


def test_the_command_asks_for_a_message_where_there_is_none(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.StringIO(" \n"))
    assert command.main(["explain"]) == 1
    assert "there is no message to explain" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="a closed pipe is another error there")
def test_the_command_ends_quietly_where_its_output_is_not_read():
    command_line = [sys.executable, "-m", "helpers", "explain", MATMUL]
    process = subprocess.Popen(
        command_line, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    process.stdout.close()
    assert process.stderr.read() == ""
    process.wait()
    process.stderr.close()


def test_a_long_log_is_gone_through_in_time():
    log = "".join(f"epoch {n} train error: 0.{n}  val error: 0.3\n" for n in range(5_000))
    begun = time.perf_counter()
    assert named(log + MATMUL) == named(MATMUL)
    assert time.perf_counter() - begun < 30  # it took minutes


@pytest.mark.parametrize("words", ["unrecognized arguments: --local-rank=0", "a -- b", "-x"])
def test_a_message_may_hold_what_looks_like_an_option(words, capsys):
    known, said = explain.answer(words)
    assert command.main(["explain", *words.split()]) == (not known)
    assert capsys.readouterr().out == f"{said}\n"


def test_a_log_with_bytes_of_another_encoding_is_read(monkeypatch, capsys):
    log = io.BytesIO(b"reading caf\xe9.png\n" + MATMUL.encode())
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(log, "utf-8"))
    assert command.main(["explain"]) == 0
    assert "Why:" in capsys.readouterr().out


def test_a_program_behind_only_is_told_where_it_belongs(capsys):
    assert command.main(["exam", "--only", "smoke", "project.py"]) == 1
    assert "before --only" in capsys.readouterr().err

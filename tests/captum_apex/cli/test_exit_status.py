"""How commands end: a status and one line for every exception, streams that are closed, and Ctrl-C at any moment."""

import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from torch import nn

from captum_apex.audio.axes import SpectrogramAxes
from captum_apex.cli import exit_status as module
from captum_apex.cli.exit_status import BROKEN_PIPE, DEFECT, WRONG_INPUT, exit_status, input_fault
from captum_apex.cli.loading import check_output_folder
from captum_apex.interruption import INTERRUPTED, Interruptions, guarded_program

ROOT = Path(__file__).parents[3]


class OfTheUser(nn.Module):
    """A model whose forward pass or gradient fails."""

    def __init__(self, error):
        super().__init__()
        self.error = error

    def forward(self, x):
        raise self.error


class Backward(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        raise IndexError("no gradient")


def ours(source):
    """Runs lines as if they were code of this package."""
    exec(compile(source, "/captum_apex/ours.py", "exec"), {"__name__": "captum_apex.ours", "torch": torch, "nn": nn})


def raised(error):
    def command():
        raise error

    return command


def through_the_model(error):
    names = {"__name__": "captum_apex.ours", "model": OfTheUser(error)}
    return lambda: exec(compile("model(1)", "/captum_apex/ours.py", "exec"), names)


def gradient():
    x = torch.ones(1, requires_grad=True)
    names = {"__name__": "captum_apex.ours", "torch": torch, "x": x, "y": Backward.apply(x)}
    exec(compile("torch.autograd.grad(y, x)", "/captum_apex/ours.py", "exec"), names)


INPUT = {
    "a file that is missing": (lambda: Path("none.wav").read_bytes(), "No such file or directory: 'none.wav'"),
    "an error of ours": (lambda: SpectrogramAxes(-1, 512, 160), "expected"),
    "a package that is missing": (raised(ImportError("expected soundfile")), "expected soundfile"),
    "a basis": (raised(SafetensorError("I/O error: No space left on device")), "No space left on device"),
    "bytes that are no text": (lambda: b"\xff".decode(), "can't decode byte 0xff"),
    "memory": (raised(MemoryError()), "the memory is not enough: MemoryError"),
    "memory of torch": (raised(RuntimeError("DefaultCPUAllocator: can't allocate memory")), "the memory is not enough"),
    "memory of a GPU": (raised(torch.OutOfMemoryError("CUDA out of memory.")), "the memory is not enough"),
    "a warning as an error": (raised(UserWarning("resampled")), "resampled"),
    "the model": (
        through_the_model(KeyError("mask")),
        r"the model raised KeyError: 'mask' \(.*test_exit_status.py, line",
    ),
    "a ValueError of the model": (through_the_model(ValueError("a\n  b")), "the model raised ValueError: a b "),
    "a layer of torch": (lambda: ours("nn.Linear(3, 2)(torch.zeros(1, 4))"), "the model raised RuntimeError: mat1"),
    "the gradient": (gradient, "the model raised IndexError: no gradient"),
}
DEFECTS = {
    "an index": lambda: ours("[][1]"),
    "a division": lambda: ours("1 / 0"),
    "a type": lambda: ours("len(3)"),
    "an assertion": lambda: ours("assert False"),
    "an operation of torch": lambda: ours("torch.zeros(2) @ torch.zeros(3)"),
    "an error of a library": lambda: ours("import json; json.dumps(float('nan'), allow_nan=False)"),
}


@pytest.mark.parametrize("kind", INPUT)
def test_what_is_wrong_with_the_input_is_one_line_and_status_2(kind, capsys):
    command, message = INPUT[kind]
    assert exit_status(command, "captum-apex") == WRONG_INPUT
    printed = capsys.readouterr()
    assert printed.out == ""
    assert re.fullmatch(rf"captum-apex: .*{message}.*\n", printed.err), printed.err


@pytest.mark.parametrize("kind", DEFECTS)
def test_a_defect_says_so_and_keeps_its_traceback(kind, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert exit_status(DEFECTS[kind], "captum-apex") == DEFECT
    said = capsys.readouterr().err
    assert re.fullmatch(r"captum-apex: this is a defect of the program .* please report it .*\n", said), said
    (path,) = tmp_path.iterdir()
    assert str(path) in said
    assert path.read_text().startswith("Traceback (most recent call last)")


def test_a_defect_is_said_where_no_file_can_be_written(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    assert exit_status(DEFECTS["an index"], "captum-apex") == DEFECT
    assert "IndexError: list index out of range (/captum_apex/ours.py, line 1)" in capsys.readouterr().err


def test_an_interruption_and_a_reader_that_has_gone_have_their_status(capsys):
    assert exit_status(raised(KeyboardInterrupt()), "captum-apex", "stopped") == INTERRUPTED
    assert exit_status(raised(BrokenPipeError()), "captum-apex") == BROKEN_PIPE
    assert capsys.readouterr().err == "\nstopped\n"


@pytest.mark.parametrize("becomes", [None, ImportError("numpy failed"), RuntimeError("of a callback")])
def test_an_interruption_that_a_library_drops_or_replaces_is_one(becomes, capsys, monkeypatch):
    seen = Interruptions()
    seen.working = True
    monkeypatch.setattr(module, "interruptions", seen)

    def command():
        try:
            seen.handle(signal.SIGINT, None)
        except KeyboardInterrupt:
            if becomes is not None:
                raise becomes from None
        return 0

    assert exit_status(command, "captum-apex") == INTERRUPTED
    assert capsys.readouterr().err == "\ninterrupted\n"


def test_input_fault_of_what_is_no_fault_of_the_input():
    with pytest.raises(KeyError) as raised_:
        ours("{}['a']")
    assert input_fault(raised_.value) is None


@pytest.mark.parametrize(
    ("started", "arguments", "is_program"),
    [
        (["python", "-m", "captum_apex", "fit"], ["-m", "fit"], True),
        (["python", "-X", "dev", "-mcaptum_apex"], ["-m"], True),
        (["python", "-m", "benchmarks", "run"], ["/a/benchmarks/__main__.py", "run"], True),
        (["python", "/usr/bin/captum-apex", "--help"], ["/usr/bin/captum-apex", "--help"], True),
        (["python", "captum-apex.exe"], ["captum-apex.exe"], True),
        (["python", "captum_apex.py"], ["captum_apex.py"], False),
        (["python", "-m", "pytest", "captum_apex"], ["-m", "captum_apex"], False),
        (["python", "-c", "import captum_apex"], ["-c"], False),
        (["python"], [""], False),
        (["python"], [], False),
    ],
)
def test_only_the_programs_are_guarded(started, arguments, is_program):
    assert guarded_program(started, arguments) == is_program


PROGRAM = """
import os, signal, sys, time
arguments = "fit a --model b:c --out d".split()
sys.orig_argv, sys.argv = ["python", "-m", "captum_apex", *arguments], ["-m", *arguments]
"""
START = PROGRAM + "from captum_apex.cli import exit_status\n"
RUN = "\nsys.exit(exit_status.as_process(lambda: exit_status.exit_status(command, 'captum-apex')))"
INTERRUPT = "signal.raise_signal(signal.SIGINT)"
WHILE = {
    "it imports": f"""{PROGRAM}
class Finder:
    def find_spec(self, name, *_):
        if name == "torch":
            {INTERRUPT}
sys.meta_path.insert(0, Finder())
import captum_apex.__main__
sys.exit(captum_apex.__main__.main())
""",
    "it works": f"""{START}
def command():
    {INTERRUPT}
{RUN}""",
    "it reports the first interruption": f"""{START}
exit_status._say = lambda line: print(line, file=sys.stderr) or {INTERRUPT}
def command():
    {INTERRUPT}
{RUN}""",
    "its work is done": f"""{START}
exit_status.as_process(lambda: 0)
{INTERRUPT}""",
    "an object is deleted": f"""{START}
class Deleted:
    def __del__(self):
        {INTERRUPT}
def command():
    Deleted()
    time.sleep(60)
    return 0
{RUN}""",
}


def process(source, redirections="", **environment):
    """What a shell makes of a program whose streams are redirected."""
    command = ["sh", "-c", f'"$0" -c "$1" {redirections}', sys.executable, source]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=ROOT, env={**os.environ, **environment}, timeout=100
    )


@pytest.mark.parametrize("moment", WHILE)
def test_ctrl_c_at_any_moment_is_a_line_and_status_130(moment):
    done = process(WHILE[moment])
    assert (done.returncode, done.stdout, done.stderr) == (INTERRUPTED, "", "\ninterrupted\n")


def test_a_library_leaves_ctrl_c_as_it_is():
    source = "import signal, captum_apex; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
    assert process(source).stdout == "True\n"


OUTPUT = f"""{START}
def command():
    print("caf\\udce9 \\u2192")
    file = open("/dev/null", "w")  # a file of the command gets no number of a stream
    return 0 if file.fileno() > 2 else 9
{RUN}"""


@pytest.mark.parametrize(
    ("redirections", "environment", "status", "printed", "said"),
    [
        ("| cat -v", {}, 0, "cafM-i M-bM-^FM-^R\n", ""),
        ("", {"PYTHONIOENCODING": "ascii"}, 0, "caf\\udce9 \\u2192\n", ""),
        ("", {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, 0, "caf\\udce9 \\u2192\n", ""),
        (">&-", {}, 0, "", ""),
        (">&- 2>&- <&-", {}, 0, "", ""),
        ("> /dev/full", {}, WRONG_INPUT, "", "captum-apex: [Errno 28] No space left on device\n"),
    ],
    ids=["unicode", "ascii", "C", "closed", "all closed", "full"],
)
def test_an_output_that_takes_little_is_no_crash(redirections, environment, status, printed, said):
    done = process(OUTPUT, redirections, **environment)
    assert (done.returncode, done.stdout, done.stderr) == (status, printed, said)


@pytest.mark.parametrize("kind", ["the output", "the errors"])
def test_a_reader_that_has_gone_is_quiet(kind):
    """As `captum-apex … | head`, which ends the pipe."""
    reader, writer = os.pipe()
    os.close(reader)
    source = f"{START}\ndef command():\n    print('a' * 100_000)\n    return 0\n{RUN}"
    if kind == "the errors":
        source = f"{START}\ndef command():\n    raise OSError('expected a')\n{RUN}"
    streams = {"stdout": writer, "stderr": subprocess.PIPE} if kind == "the output" else {"stderr": writer}
    done = subprocess.run([sys.executable, "-c", source], check=False, cwd=ROOT, **streams)
    os.close(writer)
    assert done.returncode == (BROKEN_PIPE if kind == "the output" else WRONG_INPUT)
    assert not done.stderr


# --- the place of the result ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("file/page.html", r"but .*/file is none: Not a directory"),
        ("file/new/page.html", r"but .*/file is none: Not a directory"),
        ("folder", "expected a file to write, but .*folder is a folder"),
        ("x" * 300, "File name too long"),
        ("folder/" + "x" * 300 + "/page.html", "File name too long"),
        ("/proc/none/page.html", "but /proc is none"),
    ],
)
def test_a_place_that_cannot_be_written_to_is_refused(tmp_path, path, message):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(ValueError, match=message):
        check_output_folder(tmp_path / path)


def test_a_place_that_can_be_written_to_is_left_as_it_was(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("old.html").write_text("old")
    for path in ("old.html", "new.html", "a/b/new.html", str(tmp_path / "new.html")):
        check_output_folder(Path(path))
    assert [each.name for each in tmp_path.iterdir()] == ["old.html"]
    assert Path("old.html").read_text() == "old"

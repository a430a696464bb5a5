"""Corpora: every program is valid and what its file says; what is broken is counted and stops nothing."""

import ast
import copy
import gzip
import importlib.util
import inspect
import json
import os
import random
import subprocess
import sys
import textwrap
from pathlib import Path

import huggingface_hub.constants
import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from llm.corpus import Document, Reading, Report, documents, is_held_out, sample, split
from llm.extract import Limits, cut, digest, parse, pieces, strip_comments

DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
ADD = "def add(x, y):\n    z = x + y\n    return z\n"
EVERYTHING = Limits(1, 10**6, 10**9)
# Real code with decorators, docstrings of all kinds, f-strings, comments at odd places, form feeds.
MODULES = ["textwrap", "dataclasses", "pdb", "unittest.mock", "email.message", "asyncio.streams", "hmac"]


def source_of(module: str) -> str:
    return Path(importlib.util.find_spec(module).origin).read_text(encoding="utf-8")


def with_even_docstrings(node: ast.AST) -> ast.AST:
    node = copy.deepcopy(node)
    for part in ast.walk(node):
        if isinstance(part, DEFINITIONS) and ast.get_docstring(part, clean=False) is not None:
            part.body[0].value.value = inspect.cleandoc(part.body[0].value.value).rstrip()
    return node


def every_definition(text: str):
    """All functions and classes, at any depth, with their texts."""
    lines = text.split("\n")
    return [(node, cut(lines, node)) for node in ast.walk(parse(text)) if isinstance(node, DEFINITIONS)]


def assert_same_program(node: ast.AST, text: str) -> None:
    (again,) = parse(text).body
    assert digest(with_even_docstrings(again)) == digest(with_even_docstrings(node)), text


@pytest.mark.parametrize("module", MODULES)
def test_every_definition_of_real_code_is_cut_out_whole(module):
    found = every_definition(source_of(module))
    assert len(found) > 5
    for node, text in found:
        assert_same_program(node, text)
        assert text == text.rstrip("\n") + "\n" and not text[0].isspace()


@pytest.mark.parametrize("module", MODULES)
def test_stripping_comments_of_real_code_keeps_its_tree(module):
    text = source_of(module)
    bare = strip_comments(text)
    assert digest(parse(bare)) == digest(parse(text))
    assert len(bare) < len(text) and strip_comments(bare) == bare


STRINGS = [
    '"""one\n{i}two\n"""',
    "'''a\\\n{i}b'''",
    'f"""{{x}}\n{i}{{\n{i}y}}\n{i}"""',
    '("a"\n{i}"b"\n"c")',
    "b'''\n{i}é'''",
]
LINES = [
    "x = 1", "x = [1,\n{i}2]", "x = [1,\n2]", "# a comment", "x = 1  # why", "x = 1 + \\\n{i}2", "x = 1 \\\n# odd",
    "", "\f", "s = '#'", "if x:  # so\n{i}    # then\n{i}    pass", "def g(): # g\n{i}    'doc\\n  x'\n{i}    return 1",
    "@d\n{i}# why\n{i}class C:\n{i}    '''One.\n\n{i}    Two.\n{i}    '''",
    "é = '''a\n{i}b'''", "x = ['''a\n{i}ééééé''', '''b\n{i}c''']",
]  # fmt: skip


@given(st.lists(st.sampled_from(LINES + ["s = " + string for string in STRINGS[:4]] + STRINGS[:1]), max_size=8))
def test_made_up_methods_are_cut_out_whole_and_stripped(parts):
    for indent in ("    ", "\t"):
        body = "".join(f"{indent * 2}{part.replace('{i}', indent * 2)}\n" for part in [*parts, "pass"])
        text = f"class A:\n{indent}@property\n{indent}def f(self, é='ü', x=0):\n{body}"
        for node, code in every_definition(text):
            assert_same_program(node, code)
            bare = strip_comments(code)
            assert digest(parse(bare)) == digest(parse(code))
            assert all(token not in bare for token in ("# a comment", "# why", "# so", "# then", "# odd"))


@pytest.mark.parametrize(
    "method",
    [
        "\f    def f(self):\n        return 1",
        "    def f(self):\n        '''a\\\n        b\\n c'''",
        "    def f(self):\n        '''a\\n\n        b'''",
        "    def f(self):\n        '''a\n  b\n        c'''",
    ],
)
def test_odd_methods_are_cut_out_whole(method):
    text = f"class A:\n{method}\n"
    method = parse(text).body[0].body[0]
    assert_same_program(method, cut(text.split("\n"), method))


def test_what_a_method_looks_like_on_its_own():
    text = textwrap.dedent('''
        class A:
            # above
            @staticmethod
            # between
            def f(x):  # why
                """Say.

                More.
                """
        # at the margin
                return """
                raw
        """  # end

            class B:
                def g(self):
                    pass
    ''')
    both = pieces(text, ["function"], EVERYTHING)
    assert [(piece.name, piece.line, piece.text) for piece in both] == [
        (
            "A.f",
            4,
            '@staticmethod\n# between\ndef f(x):  # why\n    """Say.\n\n    More.\n    """\n# at the margin\n'
            '    return """\n        raw\n"""  # end\n',
        ),
        ("A.B.g", 17, "def g(self):\n    pass\n"),
    ]


def test_the_outermost_part_that_fits_is_taken_once():
    text = "class A:\n    def f(self):\n        return 1\n\n    def g(self):\n        return 2\n\n\n"
    text += "if 1:\n    def h(): pass\n"

    def names(kinds, **limits):
        return [piece.name for piece in pieces(text, kinds, Limits(**{"min_lines": 1, **limits}))]

    assert names(["module", "function", "class"]) == [""]
    assert names(["module", "function", "class"], max_lines=8) == ["A", "h"]
    assert names(["function", "class"]) == ["A", "h"]
    assert names(["function", "class"], max_lines=5) == ["A.f", "A.g", "h"]
    assert names(["function"]) == ["A.f", "A.g", "h"]
    assert names(["class"]) == ["A"]
    assert list(pieces("\n# nothing\n\n", ["module", "function"], EVERYTHING)) == []
    verdicts = [piece.verdict for piece in pieces(text, ["function"], Limits(2, 2, 25))]
    assert verdicts == ["too long", "too long", "too short"]


def test_branches_of_every_statement_are_searched():
    text = textwrap.dedent("""
        try:
            def a(): pass
        except E:
            def b(): pass
        else:
            def c(): pass
        finally:
            def d(): pass
        match x:
            case 1:
                def e(): pass
        for _ in x:
            with y:
                async def f(): pass
    """)
    assert [piece.name for piece in pieces(text, ["function"], EVERYTHING)] == list("abcdef")


def test_digests_count_what_the_program_does():
    assert digest(parse("def f(x):\n  return  x # a")) == digest(parse("def f(x):\n\n    return (x)"))
    different = [
        "x = 1",
        "x = True",
        "x = 1.0",
        "x = '1'",
        "x = b'1'",
        "x = [1]",
        "[x] = 1",
        "x = [[], 1]",
        "x = [[1]]",
        "x = [1, []]",
    ]
    assert len({digest(parse(text)) for text in different}) == len(different)
    assert digest(parse("+".join(["x"] * 700))) and digest(parse("x = 0x1" + "0" * 5000))


def write(folder: Path, files: dict) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def function(name: str) -> str:
    return ADD.replace("add", name)


def test_broken_files_are_counted_by_reason_and_stop_nothing(tmp_path):
    write(
        tmp_path,
        {
            "a_good.py": b"\xef\xbb\xbf" + ADD.encode(),
            "b_syntax.py": "def f(:\n",
            "c_latin.py": "# -*- coding: latin-1 -*-\ndef f():\n    a = 'é'\n    return a\n".encode("latin-1"),
            "d_encoding.py": b"x = '\xe9'\n",
            "e_codec.py": b"# coding: klingon\n",
            "f_nul.py": "x = 1\0",
            "g_large.py": "x = 1\n" * 50000,
            "h_deep.py": "+".join("x" * 100000),
            "i_crlf.py": function("crlf").replace("\n", "\r\n"),
            "j_escape.py": "def f():\n    warned = '\\d'\n    return warned\n",
            "k/empty.py": "",
            "k/python2.py": "print 'x'\n",
            ".hidden/x.py": "def f(:\n",
            "venv/pyvenv.cfg": "",
            "venv/lib/x.py": "def f(:\n",
            "notes.txt": "def f(:\n",
        },
    )
    os.symlink("loop.py", tmp_path / "loop.py")
    os.symlink("..", tmp_path / "k" / "up")
    os.symlink("nowhere.py", tmp_path / "m_dangling.py")
    os.mkfifo(tmp_path / "n_pipe.py")
    os.mkdir(tmp_path / "o_folder.py")
    report = Report()
    found = list(documents(str(tmp_path), report=report, reading=Reading(max_bytes=200000)))
    assert [one.name for one in found] == ["a_good.py:add", "c_latin.py:f", "i_crlf.py:crlf", "j_escape.py:f"]
    assert found[0].text == ADD and "'é'" in found[1].text and "\r" not in found[2].text
    assert report.broken == {
        "syntax error": 2, "wrong encoding": 2, "NUL bytes": 1, "too large": 1, "nested too deeply": 1,
        "linked folder": 1, "unreadable file": 2, "not a regular file": 1,
    }  # fmt: skip
    assert report.examples["syntax error"] == ["b_syntax.py", "k/python2.py"]
    assert report.files == 5 and report.documents == {"function": 4}
    assert report.characters == sum(len(one.text) for one in found)
    said = report.describe()
    assert "\n" not in said and "4 programs" in said and "2 syntax error (b_syntax.py, k/python2.py)" in said


def test_a_folder_without_a_program_is_an_error_that_says_why(tmp_path):
    write(tmp_path, {"a.py": "def f(:\n", "b.py": "def f(): pass\n"})
    stream = documents(str(tmp_path))
    with pytest.raises(ValueError, match=r"^corpus: .* holds no program that fits: .* 1 too short; .*1 syntax error"):
        next(stream)


def test_provenance(tmp_path):
    write(tmp_path, {"a/b.py": "# SPDX-License-Identifier: MIT OR Apache-2.0\n\n" + ADD})
    (one,) = documents(str(tmp_path))
    sha = subprocess.run(["sha256sum", tmp_path / "a/b.py"], capture_output=True, text=True).stdout.split()[0]
    about = {"path": "a/b.py", "line": 3, "kind": "function", "licence": "MIT OR Apache-2.0", "sha": sha}
    assert one == Document(ADD, "", "a/b.py:add") and one.about == about
    (alone,) = documents(str(tmp_path / "a" / "b.py"))
    assert alone.about == {**about, "path": "b.py"}


def test_packages_have_the_licence_of_their_metadata():
    assert {one.about["licence"] for one in documents("package:json")} == {"PSF-2.0"}
    decode = next(
        one for one in documents("package:json.decoder", kinds=["function"]) if "py:JSONDecoder.decode" in one.name
    )
    assert decode.name == "json/decoder.py:JSONDecoder.decode" and decode.text.startswith("def decode(self")
    assert {one.about["path"].split("/")[0] for one in documents("package:hypothesis.internal")} == {"hypothesis"}
    assert next(documents("package:hypothesis.internal")).about["licence"] == "MPL-2.0"
    assert next(documents("package:dataclasses")).about["path"] == "dataclasses.py"


def test_looking_up_a_package_does_not_run_it(tmp_path, monkeypatch):
    write(tmp_path, {"bad_one/__init__.py": "raise SystemExit\n", "bad_one/part.py": ADD})
    monkeypatch.syspath_prepend(tmp_path)
    assert [one.name for one in documents("package:bad_one.part")] == ["bad_one/part.py:add"]


def test_duplicates_are_left_out(tmp_path):
    again = "class A:\n    def add(x,  y):\n        # the same\n        z = (x + y)\n        return z\n"
    write(tmp_path, {"a.py": ADD, "b.py": again, "c.py": function("other")})
    report = Report()
    kinds = ["function"]
    assert [one.name for one in documents(str(tmp_path), kinds=kinds, report=report)] == ["a.py:add", "c.py:other"]
    assert report.left_out == {"duplicate": 1}
    assert len(list(documents(str(tmp_path), kinds=kinds, dedup=False))) == 3


def test_comments_are_stripped_on_demand(tmp_path):
    code = "def f():  # a\n    # b\n    return '# c'\n"
    write(tmp_path, {"a.py": code})
    (kept,), (bare,) = documents(str(tmp_path)), documents(str(tmp_path), comments="strip", min_lines=2)
    assert (kept.text, bare.text) == (code, "def f():\n    return '# c'\n")
    with pytest.raises(ValueError, match="holds no program"):
        list(documents(str(tmp_path), comments="strip"))


def test_the_order_does_not_depend_on_the_file_system(tmp_path):
    names = [f"{folder}/{name}.py" for folder in ("b", "a", "a/b", "C") for name in "zyx"]
    for seed in range(3):
        random.Random(seed).shuffle(names)
        write(tmp_path / str(seed), {name: function(name.replace("/", "_")[:-3]) for name in names})
    orders = [[one.name for one in documents(str(tmp_path / str(seed)))] for seed in range(3)]
    files = [f"{folder}/{name}" for folder in ("C", "a", "a/b", "b") for name in "xyz"]
    assert orders == [[f"{file}.py:{file.replace('/', '_')}" for file in files]] * 3


RECORDS = [
    {"text": "\ufeff" + ADD.replace("\n", "\r\n"), "license": "mit"},
    {"text": "print(1)\nprint(2)\nprint(3)\n", "name": "flat"},
    {"prompt": "Add.", "text": function("f") + function("g")},
    {"prompt": "Sum.", "text": function("f") + function("g")},
    {"text": 1},
    {"text": "def f(:\n"},
    {"text": "x = '\ud800'\nx\nx\n"},
    {"text": function("h"), "prompt": "\ud800"},
    {"text": function("h"), "prompt": 3},
    {"text": "x\0"},
    {"text": "x = 1\n" * 100},
    {"text": function("last")},
]


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz"])
def test_records_broken_lines_are_named_and_the_rest_goes_on(tmp_path, suffix):
    lines = [json.dumps(record).encode() for record in RECORDS]
    lines[5:5] = [b"", b'{"text": "cut', b"[1]", b'{"text": "' + b"x" * 3000 + b'"}']
    path = tmp_path / f"data{suffix}"
    path.write_bytes((gzip.compress if suffix.endswith("gz") else bytes)(b"\n".join(lines)))
    report = Report()
    found = list(documents(str(path), report=report, reading=Reading(max_bytes=300)))
    assert [(one.name, one.prompt) for one in found] == [
        (f"data{suffix}:1", ""), ("flat", ""), (f"data{suffix}:3", "Add."), (f"data{suffix}:4", "Sum."),
        (f"data{suffix}:16", ""),
    ]  # fmt: skip
    assert found[0].text == ADD and found[0].about["licence"] == "mit" and found[0].about["kind"] == "module"
    assert report.examples == {
        "without a field text or content or code": [f"data{suffix}:5"], "not JSON": [f"data{suffix}:7"],
        "not a record": [f"data{suffix}:8"], "too large": [f"data{suffix}:9", f"data{suffix}:15"],
        "syntax error": [f"data{suffix}:10"], "wrong encoding": [f"data{suffix}:11", f"data{suffix}:12"],
        "prompt or name that is not text": [f"data{suffix}:13"], "NUL bytes": [f"data{suffix}:14"],
    }  # fmt: skip
    assert report.files == 5


def test_records_that_are_long_files_are_taken_apart(tmp_path):
    (tmp_path / "d.jsonl").write_text(json.dumps({"content": function("f") + function("g"), "x": "y = 1\n" * 3}))
    path = str(tmp_path / "d.jsonl")
    assert [one.name for one in documents(path, max_lines=4)] == ["d.jsonl:1:f", "d.jsonl:1:g"]
    # With a prompt the text stays whole, whatever is asked for.
    (tmp_path / "p.jsonl").write_text(json.dumps({"prompt": "Do.", "code": function("f") + function("g")}))
    (one,) = documents(str(tmp_path / "p.jsonl"), kinds=["function"])
    assert one.text == function("f") + function("g") and one.about["kind"] == "module"
    (one,) = documents(path, reading=Reading(text_field="x"))
    assert one.text == "y = 1\n" * 3


def test_a_truncated_gzip_file_gives_what_can_be_read(tmp_path):
    random.seed(0)
    lines = [json.dumps({"text": function(f"f{random.getrandbits(64)}")}) for _ in range(2000)]
    data = gzip.compress("\n".join(lines).encode())
    (tmp_path / "d.jsonl.gz").write_bytes(data[: len(data) // 2])
    report = Report()
    found = list(documents(str(tmp_path / "d.jsonl.gz"), report=report))
    assert 100 < len(found) < 1900
    assert report.examples == {"truncated or damaged file": [f"d.jsonl.gz:{len(found) + 1}"]}


@pytest.fixture
def table(tmp_path):
    rows = [{"code": function(f"f{i}"), "prompt": None, "more": i} for i in range(300)]
    parquet.write_table(
        pyarrow.Table.from_pylist(rows), tmp_path / "d.parquet", row_group_size=100, compression="none",
        use_dictionary=False, write_page_checksum=True,
    )  # fmt: skip
    return tmp_path / "d.parquet"


def test_parquet_rows(table):
    found = list(documents(str(table)))
    assert [one.name for one in found] == [f"d.parquet:{i}" for i in range(1, 301)]
    assert found[7].text == function("f7")


def test_damaged_parquet_rows_are_named_and_the_rest_goes_on(table):
    # One bit; only the checksum of the page tells.
    table.write_bytes(table.read_bytes().replace(b"def f150(", b"def f151("))
    report = Report()
    found = list(documents(str(table), report=report))
    assert [one.name for one in found[99:101]] == ["d.parquet:100", "d.parquet:201"] and len(found) == 200
    assert report.examples == {"truncated or damaged rows": ["d.parquet:101"]}


def test_a_truncated_parquet_file_is_an_error_that_names_it(table):
    table.write_bytes(table.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"holds no program.*1 truncated or damaged file \(d.parquet\)"):
        list(documents(str(table)))


@pytest.mark.slow
def test_hub_data_sets_stream_and_their_absence_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "train.jsonl").write_text("\n".join(json.dumps({"text": function(name)}) for name in "fg"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    assert [one.text for one in documents(f"hub:{tmp_path}")] == [function("f"), function("g")]
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    for name in ("nobody/nothing", "nobody/nothing:test", f"{tmp_path}:no-such-split", ""):
        with pytest.raises(FileNotFoundError, match=r"^corpus: the hub's data set .* can't be had \(") as caught:
            documents(f"hub:{name}")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("no/such", {}, r"no file or folder 'no/such'; give one, or 'stdlib'"),
        ("package:no_such", {}, "no package 'no_such' is installed"),
        ("package:", {}, "no package '' is installed"),
        ("package:json.no_such", {}, "the package 'json.no_such' has no Python source"),
        ("package:math", {}, "the package 'math' has no Python source"),
        ("pyproject.toml", {}, "must be a folder or end in .py, .jsonl"),
        ("stdlib", {"kinds": ["method"]}, "^kinds: must be among function, class, module, got 'method'"),
        ("stdlib", {"kinds": []}, "^kinds: give at least one"),
        ("stdlib", {"comments": "drop"}, "^comments: must be 'keep' or 'strip', got 'drop'"),
        ("stdlib", {"min_lines": 9, "max_lines": 8}, "^min_lines: must be from 1 to max_lines, 8, got 9"),
        ("stdlib", {"max_chars": 0}, "^max_chars: must be at least 1, got 0"),
    ],
)
def test_wrong_arguments_are_said_at_once(source, options, message):
    with pytest.raises((FileNotFoundError, ValueError), match=message):
        documents(source, **options)


def test_the_size_limit_is_checked():
    with pytest.raises(ValueError, match=r"^max_bytes: must be at least 1, got 0"):
        Reading(max_bytes=0)


def test_split_is_by_file_and_complete():
    every = list(documents("package:email"))
    train, held = (list(split(every, 0.3, 1, side)) for side in ("train", "held_out"))
    assert sorted(map(id, train + held)) == sorted(map(id, every))
    assert not {one.about["path"] for one in train} & {one.about["path"] for one in held}
    assert [one for one in every if is_held_out(one, 0.3, 1)] == held
    assert list(split(every, 0.3, 2, "held_out")) != held
    assert list(split(every, 0, 1, "train")) == every == list(split(every, 1, 1, "held_out"))
    many = [Document("", about={"path": f"{i}.py"}) for i in range(10000)]
    assert abs(sum(is_held_out(one, 0.3, 0) for one in many) - 3000) < 3 * 46


def test_what_split_and_sample_refuse():
    with pytest.raises(ValueError, match=r"^held_out: must be from 0 to 1, got 2"):
        split([], 2, 0, "train")
    with pytest.raises(ValueError, match=r"^side: must be 'train' or 'held_out', got 'test'"):
        split([], 0.5, 0, "test")
    with pytest.raises(ValueError, match=r"^count: must be at least 1, got 0"):
        sample([], 0, 0)


def test_samples_are_uniform_and_depend_on_their_seed_alone():
    stream = [Document(str(i)) for i in range(20)]
    assert sample(iter(stream), 5, 3) == sample(stream, 5, 3) != sample(stream, 5, 4)
    assert sample(stream, 50, 0) == stream
    counts = [0] * 20
    for seed in range(4000):
        chosen = [int(one.text) for one in sample(stream, 5, seed)]
        assert chosen == sorted(set(chosen)) and len(chosen) == 5
        for i in chosen:
            counts[i] += 1
    # Each is drawn with probability 1/4: 1000 times, with a standard deviation of 27.
    assert max(abs(count - 1000) for count in counts) < 4 * 27.4


PEAK = """
import json, resource, sys, time
from llm.corpus import Report, documents
before, start, report = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time(), Report()
for _ in documents("stdlib", report=report): pass
seconds, after = time.process_time() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps([report.describe(), report.documents, seconds, after - before]))
"""


@pytest.mark.slow
def test_the_whole_standard_library_in_a_stream():
    done = subprocess.run([sys.executable, "-W", "error", "-c", PEAK], capture_output=True, text=True, check=True)
    said, kinds, seconds, kilobytes = json.loads(done.stdout)
    print(said, f"{seconds:.1f} s, {kilobytes / 1024:.0f} MB")
    # 3.11: 8837 functions, 1330 classes, 6 s, 15 MB.
    assert kinds["function"] > 6000 and kinds["class"] > 900 and "not readable" not in said
    assert seconds < 60 and kilobytes < 60 * 1024

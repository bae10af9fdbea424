"""Builds the one extension, fastserve._core. Everything else is in pyproject.toml.

Switches, each 1 or unset unless said otherwise:
    FASTSERVE_DEBUG     no optimisation, debug symbols, bounds and None checks, assertions
    FASTSERVE_TRACE     line events, so that coverage sees the lines of .pyx and .pxi files
    FASTSERVE_SANITIZE  `address`: run under gcc's or clang's address sanitiser (`make fuzz`)
"""

import os
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

DEBUG = os.environ.get("FASTSERVE_DEBUG") == "1"
TRACE = os.environ.get("FASTSERVE_TRACE") == "1"
SANITIZE = os.environ.get("FASTSERVE_SANITIZE", "")
if SANITIZE not in ("", "address"):
    raise SystemExit(f"FASTSERVE_SANITIZE: only 'address' is known, not {SANITIZE!r}")

MODE = "trace" if TRACE else "debug" if DEBUG else SANITIZE or "release"
CHECKED = MODE != "release"
FLAGS = {"debug": ["-O0", "-g"], "address": ["-O1", "-g", "-fno-omit-frame-pointer"]}.get(MODE, ["-O3", "-g0"])
FLAGS += [f"-fsanitize={SANITIZE}"] if SANITIZE else []
MACROS = [] if CHECKED else [("CYTHON_WITHOUT_ASSERTIONS", "1")]
# coverage listens to sys.settrace, not to sys.monitoring.
MACROS += [("CYTHON_TRACE_NOGIL", "1"), ("CYTHON_USE_SYS_MONITORING", "0")] if TRACE else []

core = Extension(
    "fastserve._core",
    ["fastserve/_core.pyx"],
    depends=sorted(map(str, Path("fastserve").glob("_core_*.pxi"))),
    # Cython's own output has functions and variables that one configuration or another does not use.
    extra_compile_args=[*FLAGS, "-Wall", "-Wextra", "-Wno-unused", "-Wno-unused-parameter", "-Wno-cast-function-type"],
    extra_link_args=[flag for flag in FLAGS if flag.startswith("-fsanitize")],
    define_macros=MACROS,
)

# Nothing is switched off for speed: the core indexes pointers, where these checks do nothing, and lists keep theirs.
directives = {"language_level": 3, "autotestdict": False, "linetrace": TRACE, "nonecheck": CHECKED}

setup(
    ext_modules=cythonize(
        core,
        compiler_directives=directives,
        # One folder per mode: a switch changes the C text. Coverage wants the C beside the module.
        build_dir=None if TRACE else f"build/cython-{MODE}",
    ),
    # A module built with other switches looks up to date; compile whenever asked.
    options={"build_ext": {"force": True}},
)

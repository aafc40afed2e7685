"""How the library is found, each in a fresh process."""

from __future__ import annotations

import os
import subprocess
import sys

import sabrewing


def import_with(**environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "import sabrewing; print(sabrewing.version())"],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_found():
    result = import_with()
    assert result.returncode == 0 and result.stdout.strip() == sabrewing.version(), result.stderr


def test_absent(tmp_path):
    result = import_with(SABREWING_LIBRARY=str(tmp_path / "none.so"))
    assert result.returncode == 1
    assert "cannot be opened" in result.stderr and "none.so" in result.stderr


def test_not_a_library(tmp_path):
    (tmp_path / "text.so").write_text("text")
    assert "cannot be opened" in import_with(SABREWING_LIBRARY=str(tmp_path / "text.so")).stderr


def test_another_library():
    assert "not a library of Sabrewing" in import_with(SABREWING_LIBRARY="libm.so.6").stderr


def test_neither_torch_nor_numpy_is_imported():
    code = "import sys, sabrewing; sabrewing.Context('cpu'); print('torch' in sys.modules, 'numpy' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False False"

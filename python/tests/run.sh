#!/usr/bin/env bash
# run.sh LIBRARY [PYTEST ARGUMENT...]: the tests of the Python package and of bench/peers with a Python that has numpy
# and pytest (SABREWING_TEST_PYTHON, python3, /usr/bin/python3). Exit status 77 without one. SABREWING_REQUIRE_GPU=1: no
# test of the GPU is skipped.
set -euo pipefail
[ $# -ge 1 ] || { sed -n 2,4p "$0"; exit 2; }
SABREWING_LIBRARY=$(realpath "$1")
export SABREWING_LIBRARY
shift
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export PYTHONPATH=${here%/tests}${PYTHONPATH:+:$PYTHONPATH} PYTHONDONTWRITEBYTECODE=1
for python in ${SABREWING_TEST_PYTHON:-python3 /usr/bin/python3}; do
  if "$python" -c 'import numpy, pytest' 2>/dev/null; then
    exec "$python" -m pytest -q -p no:cacheprovider "$here" "$here/../../bench/peers/tests" "$@"
  fi
done
echo "skipped: no Python with numpy and pytest (SABREWING_TEST_PYTHON names one)"
exit 77

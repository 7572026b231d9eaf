#!/bin/sh
# Writes the locks anew: exact versions and hashes, no host names.  `make locks` calls it; UV names the program.
# WHEELS=DIR holds PyTorch's CPU wheel where no index that has it is given by TORCH_INDEX.
set -eu
cd "$(dirname "$0")"
lock() { # lock NAME INPUT [OPTION ...]
    name=$1 input=$2
    shift 2
    # shellcheck disable=SC2086
    ${UV:-uv} pip compile --quiet --generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate \
        --no-header --python-version 3.11 "$@" --output-file "$name" "$input"
}
said() { # a requirement as a file
    printf '%s\n' "$1" >"$work/$2.in"
    printf '%s' "$work/$2.in"
}
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT
torch=2.13.0
linux="--python-platform x86_64-manylinux_2_28"

# shellcheck disable=SC2086
{
    lock requirements.lock ../../pyproject.toml $linux
    lock requirements-build.lock "$(said 'hatchling>=1.27' build)" $linux
    lock requirements-example.lock "$(said 'scikit-learn>=1.4' example)" $linux -c requirements.lock
    lock requirements-torch-cpu.lock "$(said "torch==$torch+cpu" cpu)" $linux -c requirements.lock \
        ${TORCH_INDEX:+--index "$TORCH_INDEX" --index-strategy unsafe-best-match} ${WHEELS:+--find-links "$WHEELS"}
    lock requirements-torch.lock "$(said "torch==$torch" any)" --universal -c requirements.lock
}

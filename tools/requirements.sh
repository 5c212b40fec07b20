#!/bin/sh
# Pins what each part installs, with hashes and without any index address, from pyproject.toml.
#
#   tools/requirements.sh            write requirements/*.txt; pins that still fit are kept
#   tools/requirements.sh --upgrade  the same with the newest versions that fit
#   tools/requirements.sh --check    write nothing; fail where a file is out of date
#
# The images install agent.txt and controller.txt, a person's machine cli.txt, developers dev.txt
# (which holds the build backend as well, so that nothing is fetched besides it).
set -eu
UV_VERSION=0.13.9
cd "$(dirname "$0")/.."

check=""
upgrade=""
case "${1:-}" in
  --check) check=yes ;;
  --upgrade) upgrade=--upgrade ;;
  "") ;;
  *) echo "error: unknown option $1; see the head of $0" >&2; exit 2 ;;
esac

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# uv does the pinning; nothing else needs it, so that it is no dependency of ours.
uv=.venv/bin/uv
[ -x "$uv" ] || uv=$(command -v uv || true)
if [ -z "$uv" ]; then
  python3 -m venv "$scratch/venv"
  "$scratch/venv/bin/pip" install --quiet "uv==$UV_VERSION"
  uv="$scratch/venv/bin/uv"
fi

stale=0
for part in agent controller cli dev; do
  wanted="$scratch/$part.txt"
  target="requirements/$part.txt"
  [ ! -f "$target" ] || cp "$target" "$wanted"
  sources=pyproject.toml
  if [ "$part" = dev ]; then
    sed -n 's/^requires = \["\(hatchling[^"]*\)"\]$/\1/p' pyproject.toml >"$scratch/build.in"
    # What hatchling needs besides for `pip install --no-build-isolation -e .`.
    echo "editables" >>"$scratch/build.in"
    sources="$sources $scratch/build.in"
  fi
  # shellcheck disable=SC2086 # a list of files, and at most one option
  "$uv" pip compile --quiet $upgrade $sources --extra "$part" \
    --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
    --no-header --no-annotate --output-file "$wanted"
  if cmp -s "$wanted" "$target"; then
    continue
  elif [ -n "$check" ]; then
    echo "error: $target does not fit pyproject.toml; run: tools/requirements.sh" >&2
    stale=1
  else
    mkdir -p requirements
    cp "$wanted" "$target"
    echo "$target"
  fi
done
exit $stale

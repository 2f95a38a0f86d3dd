#!/bin/sh
# Write what each Containerfile here builds from to dist/images: locked requirements, and the project's wheel.
# For who has Docker alone; `make images` does the same. Run it where the image's Python is, at the top of a checkout.
set -eu
out=dist/images
uv=/tmp/segviz-uv
python3 -m venv $uv
$uv/bin/pip install --quiet uv
for role in operator aggregator trainer local; do
  case $role in
    operator) extras="--extra operator" ;;
    aggregator) extras="" ;;
    trainer) extras="--extra trainer" ;;
    local) extras="--extra operator --extra trainer" ;;
  esac
  rm -rf $out/$role
  mkdir -p $out/$role
  # shellcheck disable=SC2086
  $uv/bin/uv pip compile --quiet --generate-hashes --no-annotate --no-header --no-emit-index-url \
    --constraints requirements.lock $extras --output-file $out/$role/requirements.txt pyproject.toml
  SOURCE_DATE_EPOCH=315532800 $uv/bin/uv build --quiet --wheel --out-dir $out/$role
  echo "$out/$role"
done

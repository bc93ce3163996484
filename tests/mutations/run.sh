#!/usr/bin/env bash
# Breaks the product on purpose, one patch at a time, and expects the simulation to notice.
#
#   tests/mutations/run.sh [name ...]
#
# Each patch is applied to a copy of ptn-core in a scratch workspace, never to the tree itself; all
# copies are built at once, then each one's simulation runs. Prints the table of
# docs/reliability.md; ends with 1 when a mutation survives, or when the copy without one does not.
#   PTN_SIM_SEEDS   how many seeds a mutation may live (5000)
#   PTN_MUTATIONS   the scratch folder, kept between runs (target/mutations)
#   CARGO           what builds (cargo)
set -euo pipefail
cd "$(dirname "$0")/../.."
here=$PWD
scratch=${PTN_MUTATIONS:-$here/target/mutations}
seeds=${PTN_SIM_SEEDS:-5000}
cargo=${CARGO:-cargo}
names=("$@")
if [ ${#names[@]} = 0 ]; then
  for patch in tests/mutations/*.patch; do names+=("$(basename "$patch" .patch)"); done
fi

# A workspace of copies. What did not change keeps its time of change and is not built again.
mkdir -p "$scratch/fresh" "$scratch/workspace"
refresh() { # from to
  mkdir -p "$2"
  (cd "$1" && find . -type f) | while read -r file; do
    if ! cmp -s "$1/$file" "$2/$file"; then
      mkdir -p "$(dirname "$2/$file")"; cp "$1/$file" "$2/$file"
    fi
  done
}
members=
for name in unbroken "${names[@]}"; do
  rm -rf "$scratch/fresh/ptn-core"
  mkdir -p "$scratch/fresh/ptn-core"
  git ls-files -co --exclude-standard ptn-core | tar -c -T - | tar -x -C "$scratch/fresh"
  if [ "$name" != unbroken ]; then
    patch -s -p1 -d "$scratch/fresh" <"tests/mutations/$name.patch"
  fi
  sed -i "s/^name = \"ptn-core\"/name = \"$name\"/; s/^\[features\]/[lib]\nname = \"ptn_core\"\n\n[features]/" \
    "$scratch/fresh/ptn-core/Cargo.toml"
  refresh "$scratch/fresh/ptn-core" "$scratch/workspace/$name"
  members+="\"$name\", "
done
sed "s/^members = .*/members = [${members%, }]/; /^ptn-.* = { path/d" Cargo.toml >"$scratch/workspace/Cargo.toml"
cp Cargo.lock "$scratch/workspace/Cargo.lock"
built=$scratch/built.json
packages=()
for name in unbroken "${names[@]}"; do packages+=(-p "$name"); done
(cd "$scratch/workspace" && CARGO_TARGET_DIR=$scratch/target "$cargo" build -q "${packages[@]}" \
  --no-default-features --features fs,test-util --test sim --keep-going --message-format=json) \
  >"$built" || echo "not every mutation builds" >&2

simulate() { # name
  local program
  program=$(python3 - "$built" "$1" <<'PYTHON'
import json, sys
for line in open(sys.argv[1]):
    built = json.loads(line)
    if built.get("executable") and built["target"]["name"] == "sim" \
            and f'/{sys.argv[2]}#' in built["package_id"]:
        print(built["executable"])
PYTHON
  )
  (cd ptn-core && PTN_SIM_SEEDS=$seeds timeout 1800 "$program" --nocapture every_seed) \
    >"$scratch/$1.log" 2>&1
}

survived=0
if ! simulate unbroken; then
  tail -n 30 "$scratch/unbroken.log"
  echo "the simulation fails without a mutation" >&2
  exit 1
fi
echo "without a mutation: $(grep -a ' seeds from ' "$scratch/unbroken.log")"
echo
echo "| mutation | what is broken | seed | promise that it breaks |"
echo "|---|---|---:|---|"
for name in "${names[@]}"; do
  what=$(head -n 1 "tests/mutations/$name.patch")
  if simulate "$name"; then
    verdict="- | **survived**"; survived=1
  elif first=$(grep -a -m 1 -E '^seed [0-9]+: promise ' "$scratch/$name.log"); then
    seed=${first#seed }
    verdict="${seed%%:*} | ${first#*: promise }"
  else
    verdict="- | **does not build, or ended otherwise: $scratch/$name.log**"; survived=1
  fi
  echo "| \`$name\` | $what | $verdict |"
done
exit $survived

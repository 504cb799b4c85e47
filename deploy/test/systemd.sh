#!/usr/bin/env bash
# The units are accepted by systemd, and the installer puts everything in its place.
source "$(dirname "$0")/lib.sh"
needs systemd-analyze
[ -x "$program" ] || skip "$program is not built"

cd "$scratch"
make_run
export ONEBYTE_PROGRAM=$program
DESTDIR=$scratch/root "$repository/deploy/systemd/install" coordinator run.toml
DESTDIR=$scratch/root "$repository/deploy/systemd/install" worker reviews tcp://127.0.0.1:5151 "$tiny_model" train.jsonl
DESTDIR=$scratch/root "$repository/deploy/systemd/install" evaluator reviews tcp://127.0.0.1:5151 "$tiny_model" held-out.jsonl
for file in usr/local/bin/onebyte etc/onebyte/run.toml etc/onebyte/coordinator.key etc/onebyte/worker-reviews.env; do
    [ -s "root/$file" ] || fail "$file is not installed"
done
[ "$(stat -c %a root/etc/onebyte/coordinator.key)" = 600 ] || fail 'the key can be read by others'
grep -q "^ONEBYTE_MODEL=$tiny_model$" root/etc/onebyte/worker-reviews.env || fail 'the model is not in the environment'

mkdir units
for unit in root/etc/systemd/system/*.service; do
    # Verified as they would be on a host where the program is at its place.
    sed "s|/usr/local/bin/onebyte|$program|; /^Documentation=/d" "$unit" > "units/$(basename "${unit/@./@reviews.}")"
done
found=$(systemd-analyze verify --man=no units/*.service 2>&1 | grep -v 'SO_PASSCRED\|Failed to connect\|/lib/systemd/system/' || true)
[ -z "$found" ] || fail "systemd-analyze: $found"
printf 'the units are accepted\n'

#!/usr/bin/env bash
# The units are accepted by systemd, and the installer puts everything in its place.
source "$(dirname "$0")/lib.sh"
needs systemd-analyze
[ -x "$program" ] || skip "$program is not built"

cd "$scratch"
make_run
export ONEBYTE_PROGRAM=$program
DESTDIR=$scratch/root "$repository/deploy/systemd/install" coordinator run.toml
printf '%s\n' 'tcp://127.0.0.1:5151?run=ab' > join
DESTDIR=$scratch/root "$repository/deploy/systemd/install" relay join
DESTDIR=$scratch/root "$repository/deploy/systemd/install" worker reviews tcp://127.0.0.1:5151 "$tiny_model" train.jsonl
DESTDIR=$scratch/root "$repository/deploy/systemd/install" evaluator reviews tcp://127.0.0.1:5151 "$tiny_model" held-out.jsonl
for file in usr/local/bin/onebyte etc/onebyte/run.toml etc/onebyte/coordinator.key etc/onebyte/worker-reviews.env \
    etc/onebyte/relay.key etc/onebyte/relay.key.pub; do
    [ -s "root/$file" ] || fail "$file is not installed"
done
for key in coordinator relay; do [ "$(stat -c %a root/etc/onebyte/$key.key)" = 600 ] || fail "the $key's key can be read by others"; done
[ "$(cat root/etc/onebyte/relay.env)" = 'ONEBYTE_COORDINATOR=tcp://127.0.0.1:5151?run=ab' ] || fail 'the relay does not know its coordinator'
# What may pass is tried again, for as long as it takes.
for status in 69 75; do
    if grep "^RestartPreventExitStatus=.*\b$status\b" root/etc/systemd/system/onebyte-relay.service; then fail "a relay is not started again after $status"; fi
done
grep -q '^StartLimitIntervalSec=0$' root/etc/systemd/system/onebyte-relay.service || fail 'a relay is given up after some starts'
grep -q "^ONEBYTE_MODEL=$tiny_model$" root/etc/onebyte/worker-reviews.env || fail 'the model is not in the environment'

mkdir units
for unit in root/etc/systemd/system/*.service; do
    # Verified as they would be on a host where the program is at its place.
    sed "s|/usr/local/bin/onebyte|$program|; /^Documentation=/d" "$unit" > "units/$(basename "${unit/@./@reviews.}")"
done
found=$(systemd-analyze verify --man=no units/*.service 2>&1 | grep -v 'SO_PASSCRED\|Failed to connect\|/lib/systemd/system/' || true)
[ -z "$found" ] || fail "systemd-analyze: $found"
printf 'the units are accepted\n'

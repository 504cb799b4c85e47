#!/usr/bin/env bash
# A run over a real sshd: copied, started, stopped, started again, and at its end with equal digests.
source "$(dirname "$0")/lib.sh"
needs ssh ssh-keygen sha256sum
sshd=$(PATH=$PATH:/usr/sbin:/sbin command -v sshd) || skip 'sshd is not at hand'
[ -x "$program" ] || skip "$program is not built"
[ "$(id -u)" -eq 0 ] || skip 'only root can start this sshd'

cd "$scratch"
mkdir -p home /run/sshd
ssh-keygen -q -t ed25519 -N '' -f host_key
ssh-keygen -q -t ed25519 -N '' -f id
cp id.pub authorized_keys && chmod 600 authorized_keys
port=$((20000 + RANDOM % 20000))
cat > sshd_config << END
Port $port
ListenAddress 127.0.0.1
HostKey $scratch/host_key
AuthorizedKeysFile $scratch/authorized_keys
PidFile $scratch/sshd.pid
StrictModes no
UsePAM no
PermitRootLogin prohibit-password
SetEnv HOME=$scratch/home
END
"$sshd" -f sshd_config -E sshd.log || skip "sshd does not start: $(cat sshd.log)"
end_sshd() { kill "$(cat "$scratch/sshd.pid")"; }
at_end+=(end_sshd)
cat > ssh_config << END
Host *
    Port $port
    IdentityFile $scratch/id
    UserKnownHostsFile $scratch/known
    StrictHostKeyChecking accept-new
END
# Each connection begins in this home.
export ONEBYTE_SSH="ssh -F $scratch/ssh_config" ONEBYTE_PROGRAM=$program

export LINES=3
make_run 2500
split -n l/2 -d --additional-suffix=.jsonl train.jsonl part-
cp "$tiny_model" tiny.gguf
cat > hosts.conf << END
name        tried-$port
config      run.toml
model       tiny.gguf
port        $((port + 1))
coordinator root@127.0.0.1
worker      root@127.0.0.1  part-00.jsonl
relay       root@127.0.0.1
worker      root@127.0.0.1  part-01.jsonl   --threads 1
relay       -
evaluator   root@127.0.0.1  @$scratch/held-out.jsonl
END
tool=$repository/deploy/hosts/onebyte-hosts
home=$(eval echo ~root)
clear_home() { rm -rf "$home/.onebyte/tried-$port" "$scratch/home/.onebyte"; }
stop_all() { "$tool" stop hosts.conf 2> /dev/null; }
at_end+=(stop_all clear_home)
"$tool" copy hosts.conf
[ -z "$("$tool" copy hosts.conf 2>&1)" ] || fail 'what is there already is sent again'
"$tool" start hosts.conf
"$tool" status hosts.conf | grep -c 'running' | grep -q '^5$' || fail "not all run: $("$tool" status hosts.conf; "$tool" logs hosts.conf)"
relayed() { "$tool" logs hosts.conf | grep -q 'a worker has come; there are 1'; }
for _ in $(seq 50); do if relayed; then break; fi; sleep 0.2; done
relayed || fail "no worker is behind the relay: $("$tool" logs hosts.conf)"
"$tool" restart hosts.conf
timeout 120 "$tool" wait hosts.conf || fail "the run does not end: $("$tool" logs hosts.conf)"
"$tool" status hosts.conf
"$tool" fetch hosts.conf
check_digests "tried-$port"

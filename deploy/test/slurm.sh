#!/usr/bin/env bash
# A run on a real Slurm of one node: the coordinator's job and its array start, one worker is cancelled and requeued, and the run ends
# with equal digests.
source "$(dirname "$0")/lib.sh"
PATH=$PATH:/usr/sbin:/sbin
needs slurmctld slurmd munged sbatch scontrol squeue
[ -x "$program" ] || skip "$program is not built"
[ "$(id -u)" -eq 0 ] || skip 'only root can start these daemons'

cd "$scratch"
chmod 755 .
mkdir -p munge slurm/{state,spool} shared
chmod 700 munge
dd if=/dev/urandom of=munge/key bs=1024 count=1 status=none
chown -R munge: munge && chmod 400 munge/key
# munged wants a path that only root and its user can change.
socket=/run/munge-onebyte-$$
install -d -o munge -g munge -m 755 "$socket"
remove_socket() { rm -rf "$socket"; }
at_end+=(remove_socket)
chmod 755 "$scratch"
runuser -u munge -- "$(command -v munged)" --force --foreground --key-file="$scratch/munge/key" --socket="$socket/socket" --pid-file="$socket/pid" \
    --log-file="$socket/log" --seed-file="$socket/seed" > munged.out 2>&1 &
munged=$!
node=$(hostname -s)
port=$((20000 + RANDOM % 20000))
cat > slurm/slurm.conf << END
ClusterName=onebyte
SlurmctldHost=$node(127.0.0.1)
SlurmctldPort=$port
SlurmdPort=$((port + 1))
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$socket/socket,cred_expire=3
StateSaveLocation=$scratch/slurm/state
SlurmdSpoolDir=$scratch/slurm/spool
SlurmctldPidFile=$scratch/slurm/slurmctld.pid
SlurmdPidFile=$scratch/slurm/slurmd.pid
SlurmctldLogFile=$scratch/slurm/slurmctld.log
SlurmdLogFile=$scratch/slurm/slurmd.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=batch_sched_delay=0,sched_interval=1,requeue_delay=0
ReturnToService=2
MpiDefault=none
SlurmdParameters=config_overrides
NodeName=$node NodeAddr=127.0.0.1 CPUs=8 State=UNKNOWN
PartitionName=all Nodes=$node Default=YES MaxTime=INFINITE State=UP OverSubscribe=FORCE:8
END
export SLURM_CONF=$scratch/slurm/slurm.conf
end_slurm() {
    scancel --user root 2> /dev/null
    for name in slurmd slurmctld; do [ ! -e "$scratch/slurm/$name.pid" ] || kill "$(cat "$scratch/slurm/$name.pid")"; done
    kill "$munged"
    wait "$munged" 2> /dev/null
}
at_end=(end_slurm "${at_end[@]}")
until [ -S "$socket/socket" ]; do kill -0 "$munged" 2> /dev/null || skip "munged does not start: $(cat munged.out)"; sleep 0.1; done
slurmctld > ctld.out 2>&1 || skip "slurmctld does not start: $(cat ctld.out)"
slurmd > slurmd.out 2>&1 || skip "slurmd does not start: $(cat slurmd.out slurm/slurmd.log)"
for _ in $(seq 50); do case $(sinfo --noheader --format=%t 2> /dev/null) in idle*) break ;; esac; sleep 0.2; done
case $(sinfo --noheader --format=%t) in idle*) ;; *) skip "the node does not come up: $(sinfo; tail -5 slurm/slurmd.log)" ;; esac

cd shared
make_run 8000
job=$(sbatch --parsable --output=coordinator.log \
    --export="ALL,RUN=$scratch/shared,MODEL=$tiny_model,WORKERS=3,ONEBYTE=$program,ONEBYTE_SBATCH=$repository/deploy/slurm/onebyte.sbatch" \
    "$repository/deploy/slurm/onebyte.sbatch")
state() { scontrol show job "$1" 2> /dev/null | sed -n 's/.*JobState=\([A-Z]*\).*/\1/p' | head -1; }
log() { tail -n 3 coordinator.log logs/*.log 2> /dev/null; }
until [ -s workers.job ]; do case $(state "$job") in COMPLETED | FAILED) fail "no workers: $(log)" ;; esac; sleep 0.2; done
workers=$(cat workers.job)
joined() { "$program" ledger show run --records 2> /dev/null | grep -c 'admission' || true; }
for _ in $(seq 300); do [ "$(joined)" -ge 4 ] && break; sleep 0.2; done
[ "$(joined)" -ge 4 ] || fail "the workers do not join: $(log)"
scontrol requeue "${workers}_2" || fail 'can not be requeued'
before=$(joined)
# Slurm lets a requeued job wait for two minutes; this test does not.
for _ in $(seq 300); do scontrol update "JobId=${workers}_2" StartTime=now 2> /dev/null || true; [ "$(joined)" -gt "$before" ] && break; case $(state "$job") in COMPLETED | FAILED) break ;; esac; sleep 0.2; done
[ "$(joined)" -gt "$before" ] || fail "the requeued worker does not come back: $(squeue; scontrol show job "${workers}_2"; log)"
for _ in $(seq 600); do case $(state "$job") in COMPLETED) break ;; FAILED | CANCELLED) fail "the coordinator failed: $(log)" ;; esac; sleep 0.2; done
[ "$(state "$job")" = COMPLETED ] || fail "the run does not end: $(log)"
[ ! -e join ] || fail 'the join string is still there'
check_digests run

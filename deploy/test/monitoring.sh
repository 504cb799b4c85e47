#!/usr/bin/env bash
# Prometheus' own checks accept the rules, and the metrics of a coordinator and of a worker. Where Python has TensorBoard, its own reader finds
# the numbers of the CSV.
source "$(dirname "$0")/lib.sh"
needs promtool curl python3
cd "$repository/deploy/monitoring"
promtool check config prometheus.yml
promtool check rules alerts.yml
promtool test rules alerts-test.yml

[ -x "$program" ] || skip "$program is not built"
cd "$scratch"
make_run 4000
stop() { kill $(jobs -p) 2> /dev/null && wait; }
at_end+=(stop)
port() { sed -n 's/.*dashboard at http:..127.0.0.1:\([0-9]*\).*/\1/p' "$1"; }
"$program" coordinator --config run.toml --directory run --listen 'tcp://127.0.0.1:*' --join-file join --evaluate-every 10 \
    --dashboard 127.0.0.1:0 > coordinator.out 2> coordinator.log &
coordinator=$!
for number in 1 2; do
    "$program" worker --join-file join --model "$tiny_model" --train-file train.jsonl --shard "$number/2" --threads 1 --name "worker-$number" \
        --dashboard 127.0.0.1:0 2> "worker-$number.log" &
done
"$program" worker --join-file join --model "$tiny_model" --evaluate held-out.jsonl --threads 1 --name evaluator 2> evaluator.log &

# Every metric of a coordinator that trains, and what a worker knows. `promtool check metrics` also ends with an error where a name or a unit is
# not as Prometheus advises.
for _ in $(seq 300); do
    ended=$(kill -0 "$coordinator" 2> /dev/null || echo yes)
    for role in coordinator worker-1; do curl -s "http://127.0.0.1:$(port "$role.log")/metrics" > "$role.metrics" || true; done
    if [ -n "$ended" ] || { grep -q '^onebyte_worker_training_loss.*worker-2' coordinator.metrics && grep -q '^onebyte_evaluation_loss' coordinator.metrics \
        && grep -q '^onebyte_left_seconds' coordinator.metrics && grep -q '^onebyte_samples_per_second' worker-1.metrics; }; then break; fi
    sleep 0.1
done
for role in coordinator worker-1; do
    [ -s "$role.metrics" ] || fail "$role has no metrics: $(tail -3 "$role.log")"
    promtool check metrics < "$role.metrics" || fail "the metrics of $role are not as they should be"
    printf '%s: %d metrics\n' "$role" "$(grep -c '^# TYPE' "$role.metrics")"
done
for name in $(grep -ho 'onebyte_[a-z_]*' "$repository"/deploy/monitoring/{alerts.yml,grafana-dashboard.json} | sort -u); do
    grep -q "^# TYPE $name " coordinator.metrics || fail "a rule or a panel asks for $name, which a coordinator that trains does not have"
done
kill -INT "$coordinator"
wait "$coordinator" || true

"$program" report run --format csv --output curves.csv
"$program" report run --format tensorboard --output board
python3 -c 'import tensorboard' 2> /dev/null || skip 'TensorBoard is not at hand (pip install tensorboard); the metrics are as they should be'
"$repository/scripts/check_tensorboard.py" board curves.csv

#!/bin/bash
# Makes the golden files: short real runs on the tiny model, whose ledgers every later version must replay to the same digests.
#
#     Tests/OneByteTests/Fixtures/golden/make_golden.sh PATH/TO/onebyte
#
# The committed files were made by the release build of commit 1e852b7, whose flags this script uses; later versions have other flags and
# can't run it. The files are made again only if the ledger's format changes on purpose. A second call gives other ledgers, since machines
# are admitted in another order and at another time.
#
# <name>/ledger       the ledger of the run <name>
# <name>/spec.json    its canonical spec: what the program wrote as run.json, without the line break at its end
# specs/<name>.json   canonical specs of runs that nobody joined
# golden.json         for each spec its SHA-256; for each ledger its records, its hash chain, and the digests that `ledger replay` gives
#                     at two rounds in the middle and at the end (with each of them `ledger verify --base` agreed)
#
# Needs python3 for the run whose objective is a program's score. It takes about a minute.
set -euo pipefail
export LC_ALL=C

[ $# = 1 ] || { sed -n '2,4s/^# \{0,1\}//p' "$0" >&2; exit 64; }
commit=1e852b7
onebyte=$(realpath "$1")
here=$(dirname "$(realpath "$0")")
models=$(realpath "$here/../../../LanguageModelTests/Fixtures")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

# MARK: Data, a few sentences of each kind

# Neighbouring pairs have the same label, so that each of two workers, which take alternate lines, gets both labels.
reviews() { # FIRST LAST
    local i label
    for i in $(seq "$1" "$2"); do
        label=$((i / 2 % 2))
        echo "{\"text\": \"film number $i was $([ $label = 1 ] && echo a delight || echo dull)\", \"label\": $label}"
    done
}
reviews 1 24 > train.jsonl
reviews 25 36 > held-out.jsonl
reviews 37 52 > validation.jsonl
for i in $(seq 24); do echo "{\"prompt\": \"the film number $i\", \"completion\": \" was good\"}"; done > completions.jsonl
for i in $(seq 24); do
    echo "{\"messages\": [{\"role\": \"user\", \"content\": \"film $i?\"}, {\"role\": \"assistant\", \"content\": \"it was good\"}]}"
done > chats.jsonl
for i in $(seq 24); do echo "{\"text\": \"She was in the house number $i\"}"; done > texts.jsonl
# Text that the model writes itself, so that a direction can lose something.
for text in aS bin dt ik mS nK ono use 'w w' AA Din Ke 'M no' NA OO QA 'S was' Wo; do echo "{\"text\": \"$text\"}"; done > said.jsonl
for i in $(seq 16); do echo "Public sentence number $i about nothing."; done > public.txt
cat > score.py <<'PROGRAM'
import json, sys
for line in sys.stdin:
    query = json.loads(line)
    print(json.dumps({"id": query["id"], "score": len(set(query["text"])) / 10}), flush=True)
PROGRAM

# MARK: Runs

classes=(--template '{text} It was' --label '0= bad' --label '1= good')
plain=(--shape none --train layers.2)

# Makes a run of 30 rounds with 24 samples, with two workers of one thread each. FLAGS come last, so that they override the others.
run() { # NAME FLAGS…
    local name=$1
    shift
    echo "$name" >&2
    "$onebyte" cluster --model "$models/tiny-llama" --directory "$work/runs/$name" --workers 2 --threads 1 \
        --rounds 30 --samples-per-round 24 --evaluate-every 0 --digest-every 5 --max-length 64 "$@" > "$name.log" 2>&1 ||
        { cat "$name.log" >&2; return 1; }
}

# Prints the number of the first machine that trains.
trainer() { # NAME
    "$onebyte" ledger show "runs/$1" --records | sed -n 's/^[0-9]* admission machine=\([0-9]*\) .*trains=true.*/\1/p' | head -n 1
}

classify=(--train-file train.jsonl "${classes[@]}")
# Fails if a run that is kept for its rewinds has too few of them.
needs_rewinds() { # NAME NUMBER
    local found
    found=$("$onebyte" ledger show "runs/$1" --records | grep -c ' rewind ') || true
    [ "$found" -ge "$2" ] || { echo "$1: $found rewinds; call this script once more" >&2; return 1; }
}

steer=(--eval-file held-out.jsonl --validation-file validation.jsonl)
golden=()

# Each family of directions.
run rank1 "${classify[@]}" --shape none --train all --learning-rate 2e-3 --seed 1
run rank1-damped "${classify[@]}" --basis-text public.txt --shape 2 --train layers.1-2 --learning-rate 0.004 --seed 2
run rademacher "${classify[@]}" "${plain[@]}" --perturbation rademacher --learning-rate 3e-4 --schedule constant --seed 3
run gaussian "${classify[@]}" "${plain[@]}" --perturbation gaussian --learning-rate 3e-4 --schedule cosine --warmup-rounds 5 --seed 4
golden+=(rank1 rank1-damped rademacher gaussian)

# A base in blocks of a few bits, and tensors by name.
run gguf "${classify[@]}" --model "$models/tiny-llama.gguf" --shape none --train '*.mlp.down_proj.weight' --train model.norm.weight \
    --learning-rate 0.01 --samples-per-draw 4 --estimator one-sided --target-magnitude 20 --seed 9223372036854775807
golden+=(gguf)

# Every kind of task and of objective.
score=(--shape none --train all --examples-per-sample 8 --learning-rate 0.01)
run completion --train-file completions.jsonl "${plain[@]}" --learning-rate 0.01 --seed 5
run chat --train-file chats.jsonl "${plain[@]}" --learning-rate 0.01 --seed 6
run text --train-file texts.jsonl "${plain[@]}" --learning-rate 0.01 --seed 7
run exact-match --train-file said.jsonl "${score[@]}" --objective exact-match --epsilon 0.1 --seed 8
run accuracy "${classify[@]}" "${score[@]}" --objective accuracy --epsilon 0.3 --seed 9
run f1 "${classify[@]}" "${score[@]}" --objective f1 --epsilon 0.3 --seed 10
run command --train-file completions.jsonl --kind completion "${plain[@]}" --objective-command "exec python3 '$work/score.py'" \
    --objective-max-tokens 5 --objective-stop newline --examples-per-sample 2 --epsilon 0.1 --learning-rate 0.01 --rounds 10 --seed 11
run generalized-cross-entropy "${classify[@]}" "${plain[@]}" --generalized-cross-entropy 0.7 --learning-rate 0.01 --seed 12
run candidates "${classify[@]}" "${plain[@]}" --candidates-per-example 2 --samples-per-draw 2 --learning-rate 0.01 --seed 13
golden+=(completion chat text exact-match accuracy f1 command generalized-cross-entropy candidates)

# Filters, machines that run ahead, rounds with a deadline.
run filter-clip "${classify[@]}" "${plain[@]}" --workers 3 --filter clip --filter-factor 1.5 --bad-machines set-aside --learning-rate 0.01 --seed 14
run staleness "${classify[@]}" "${plain[@]}" --filter sign --staleness 2 --round-deadline-factor 4 --quorum 0.75 --learning-rate 0.01 --seed 15
golden+=(filter-clip staleness)

# Rewinds: a guard that goes back from learning rates that are far too large; trials of rates, and an early end.
run guard "${classify[@]}" "${steer[@]}" --basis-text public.txt --shape 2 --train layers.1-2 --evaluate-every 3 --guard 0.02 \
    --schedule constant --learning-rate 1 --rounds 24 --seed 16
needs_rewinds guard 3
run trials "${classify[@]}" "${steer[@]}" "${plain[@]}" --perturbation rademacher --rate-trials 4 --guard 0.1 --patience 3 --evaluate-every 2 \
    --learning-rate 1e-3 --rounds 40 --seed 17
needs_rewinds trials 5
golden+=(guard trials)

# Retractions from finished runs: some rounds of one machine, then all of them, including rounds that a rewind had undone.
cp -r runs/rank1-damped runs/retraction
machine=$(trainer retraction)
"$onebyte" ledger retract runs/retraction --yes --machine "$machine" --from-round 4 --to-round 12 >&2
"$onebyte" ledger retract runs/retraction --yes --machine "$machine" --from-round 8 --to-round 25 >&2
cp -r runs/guard runs/rewind-retraction
"$onebyte" ledger retract runs/rewind-retraction --yes --machine "$(trainer guard)" >&2
golden+=(retraction rewind-retraction)

# A machine is retracted from a running run and evicted; then the guard goes back.
run retraction-while-running "${classify[@]}" "${steer[@]}" --shape none --train all --workers 3 --round-seconds 0.1 --samples-per-round 96 \
    --examples-per-sample 64 \
    --evaluate-every 3 --guard 0.02 --schedule constant --learning-rate 0.5 --rounds 30 --seed 18 --heartbeat 0.5 --heartbeat-timeout 5 &
pid=$!
until [ "$("$onebyte" ledger show runs/retraction-while-running --records 2> /dev/null | grep -c ' round ')" -ge 5 ]; do
    kill -0 $pid
    sleep 0.2
done
machine=$(trainer retraction-while-running)
# Right after a rewind to the beginning the machine has no bytes to retract.
until "$onebyte" ledger retract runs/retraction-while-running --yes --machine "$machine" --set-aside >&2; do kill -0 $pid; sleep 0.3; done
# The cluster ends with the status of the evicted worker; its ledger is whole, but has no end record.
wait $pid || true
needs_rewinds retraction-while-running 2
golden+=(retraction-while-running)

# MARK: Specs of runs that nobody joins

specs=()
spec() { # NAME FLAGS…
    local name=$1
    shift
    "$onebyte" coordinator --directory "$work/specs/$name" --listen tcp://127.0.0.1:0 "$@" > "$name.log" 2>&1 &
    local pid=$!
    until [ -s "specs/$name/run.json" ]; do kill -0 $pid || { cat "$name.log" >&2; return 1; }; sleep 0.05; done
    kill $pid
    wait $pid || true
    specs+=("$name")
}

# A spec with as few keys as possible, all others default.
spec minimal --kind text --samples-per-round 1 --learning-rate 1
spec defaults "${classes[@]}"
# Every key that a run can have, in the two runs that can hold them.
all=(--train layers.0-1 --train '*.norm.weight' --epsilon 0.02 --learning-rate 1e-7 --schedule cosine --warmup-rounds 3 --rounds 2147483647
    --samples-per-round 1048576 --examples-per-sample 65536 --samples-per-draw 32768 --target-magnitude 58 --seed 12 --evaluate-every 7 --digest-every 5
    --rate-trials 11 --guard 0.1 --patience 13 --minimum-workers 17 --round-deadline-factor 2.5 --quorum 0.333 --staleness 64
    --round-seconds 0.05 --filter-factor 1.25 --bad-machines set-aside --heartbeat 0.05 --heartbeat-timeout 3600 --max-length 131072)
spec all-of-a-classification "${all[@]}" --template $'\t„{text}“ \\ "it" / was\n' --label '10= bad' --label '9= good' --label '11= größer 🙂' \
    --generalized-cross-entropy 0.3 --candidates-per-example 1024 --estimator one-sided --filter clip --shape 2 --basis runs/rank1-damped/basis
spec all-of-a-command "${all[@]}" --kind chat --objective command --objective-max-tokens 4096 --objective-stop newline --estimator two-sided \
    --filter drop --perturbation gaussian
# Each kind of task, objective, filter.
for kind in completion chat text; do spec $kind --kind $kind; done
for objective in accuracy f1; do spec $objective "${classes[@]}" --objective $objective; done
spec exact-match --kind completion --objective exact-match
spec command --kind completion --objective command
for filter in clip sign drop; do spec filter-$filter --kind text --filter $filter --perturbation rademacher --schedule constant; done
spec guard --kind text --guard 0.25

# MARK: What is kept

rm -rf "$here/specs"
for name in "${golden[@]}"; do rm -rf "${here:?}/$name"; done
mkdir "$here/specs"

# What the program wrote ends with a line break.
canonical() { head -c -1 "$1"; }
digest() { sha256sum < "$1" | cut -d ' ' -f 1; }

{
    echo '{'
    echo "  \"commit\": \"$commit\","
    echo '  "specs": ['
    separator='    '
    for name in "${specs[@]}"; do
        canonical "specs/$name/run.json" > "$here/specs/$name.json"
        printf '%s{"name": "%s", "sha256": "%s"}' "$separator" "$name" "$(digest "$here/specs/$name.json")"
        separator=$',\n    '
    done
    echo
    echo '  ],'
    echo '  "ledgers": ['
    separator='    '
    for name in "${golden[@]}"; do
        mkdir "$here/$name"
        cp "runs/$name/ledger" "$here/$name/ledger"
        canonical "runs/$name/run.json" > "$here/$name/spec.json"
        model=tiny-llama
        [ "$name" != gguf ] || model=tiny-llama.gguf
        # …/ledger: whole: 42 records, 12345 bytes, 30 rounds, chain 0123…
        facts=$("$onebyte" ledger verify "$here/$name/ledger" --base "$models/$model" 2> verify.log) || { cat verify.log >&2; exit 1; }
        records=$(sed -E 's/.* ([0-9]+) records,.*/\1/' <<< "$facts")
        rounds=$(sed -E 's/.* ([0-9]+) rounds,.*/\1/' <<< "$facts")
        printf '%s{"name": "%s", "model": "%s", "sha256": "%s", "records": %s, "chain": "%s", "digests": [' "$separator" \
            "$name" "$model" "$(digest "$here/$name/spec.json")" "$records" "${facts##* chain }"
        between= before=
        for round in $((rounds / 3)) $((2 * rounds / 3)) "$rounds"; do
            at=(--at-round "$round")
            [ "$round" != "$rounds" ] || at=()
            found=$("$onebyte" ledger replay "$here/$name/ledger" --model "$models/$model" "${at[@]}" 2> replay.log) || { cat replay.log >&2; exit 1; }
            printf '%s\n      {"round": %s, "digest": "%s"}' "$between" "$round" "$found"
            between=,
            [[ $found != "$before" ]] || { echo "$name: the same parameters twice; call this script once more" >&2; exit 1; }
            before=$found
        done
        printf ']}'
        separator=$',\n    '
    done
    echo
    echo '  ]'
    echo '}'
} > "$work/golden.json"
mv "$work/golden.json" "$here/golden.json"

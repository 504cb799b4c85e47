#!/bin/bash
# Makes the golden ledgers of format 3, with what came since make_golden.sh: adapters, orthogonal samples, momentum, signatures, restorations,
# validations with their noise.
#
#     Tests/OneByteTests/Fixtures/golden/make_golden_3.sh PATH/TO/onebyte
#
# Writes 3-<name>/ledger, 3-<name>/spec.json and golden-3.json, as make_golden.sh explains. The files are made again only if the ledger's format
# changes on purpose: another call gives other ledgers, since machines are admitted at another time. It takes half a minute.
set -euo pipefail
export LC_ALL=C

[ $# = 1 ] || { sed -n '2,5s/^# \{0,1\}//p' "$0" >&2; exit 64; }
onebyte=$(realpath "$1")
here=$(dirname "$(realpath "$0")")
models=$(realpath "$here/../../../LanguageModelTests/Fixtures")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

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
for i in $(seq 16); do echo "Public sentence number $i about nothing."; done > public.txt

# Makes a run of two workers of one thread each. FLAGS come last, so that they override the others.
run() { # NAME FLAGS…
    local name=$1
    shift
    echo "$name" >&2
    "$onebyte" cluster --model "$models/tiny-llama" --directory "$work/runs/$name" --workers 2 --threads 1 --basis-text public.txt \
        --rounds 24 --samples-per-round 16 --digest-every 5 --max-length 64 "$@" > "$name.log" 2>&1 ||
        { cat "$name.log" >&2; return 1; }
}

classify=(--train-file train.jsonl --template '{text} It was' --label '0= bad' --label '1= good')
run 3-adapter "${classify[@]}" --seed 1
run 3-adapter-without-momentum "${classify[@]}" --momentum 0 --sampling random --seed 2
run 3-adapter-texts --train-file completions.jsonl --adapter-outputs 6 --seed 3
run 3-adapters-of-layers "${classify[@]}" --train 'adapter:layers.1-2.mlp.down_proj' --train adapter:final --seed 4
run 3-steered "${classify[@]}" --eval-file held-out.jsonl --validation-file validation.jsonl --rate-trials 2 --guard 0.02 --evaluate-every 3 \
    --learning-rate 8 --seed 5
cp -r runs/3-adapter runs/3-restored
change() { # VERB FROM TO
    "$onebyte" ledger "$1" runs/3-restored --yes --machine worker-1 --from-round "$2" --to-round "$3" >&2
}
change retract 4 15
change restore 8 20
change retract 10 11
golden=(3-adapter 3-adapter-without-momentum 3-adapter-texts 3-adapters-of-layers 3-steered 3-restored)

for name in "${golden[@]}"; do rm -rf "${here:?}/$name"; done
{
    printf '{\n  "commit": "%s",\n  "specs": [],\n  "ledgers": [\n' "$(git -C "$here" rev-parse --short HEAD)"
    separator='    '
    for name in "${golden[@]}"; do
        mkdir "$here/$name"
        cp "runs/$name/ledger" "$here/$name/ledger"
        # What the program wrote ends with a line break.
        head -c -1 "runs/$name/run.json" > "$here/$name/spec.json"
        facts=$("$onebyte" ledger verify "$here/$name/ledger" --base "$models/tiny-llama" 2> verify.log) || { cat verify.log >&2; exit 1; }
        facts=$(grep -E ' [0-9]+ records,' <<< "$facts")
        records=$(sed -E 's/.* ([0-9]+) records,.*/\1/' <<< "$facts")
        rounds=$(sed -E 's/.* ([0-9]+) rounds,.*/\1/' <<< "$facts")
        printf '%s{"name": "%s", "model": "tiny-llama", "sha256": "%s", "records": %s, "chain": "%s", "digests": [' "$separator" "$name" \
            "$(sha256sum < "$here/$name/spec.json" | cut -d ' ' -f 1)" "$records" "$(sed -E 's/.* chain ([0-9a-f]{64}).*/\1/' <<< "$facts")"
        between=
        for round in $((rounds / 3)) $((2 * rounds / 3)) "$rounds"; do
            at=(--at-round "$round")
            [ "$round" != "$rounds" ] || at=()
            found=$("$onebyte" ledger replay "$here/$name/ledger" --model "$models/tiny-llama" "${at[@]}" 2> replay.log) || { cat replay.log >&2; exit 1; }
            printf '%s\n      {"round": %s, "digest": "%s"}' "$between" "$round" "$found"
            between=,
        done
        printf ']}'
        separator=$',\n    '
    done
    printf '\n  ]\n}\n'
} > "$work/golden-3.json"
mv "$work/golden-3.json" "$here/golden-3.json"

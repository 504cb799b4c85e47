# What the tests here share. A test ends with 0 where it passed and with 77 where this machine can't run it; sourced by each.
# shellcheck shell=bash
set -euo pipefail

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
program=${ONEBYTE_PROGRAM:-$repository/.build/release/onebyte}
tiny_model=$repository/Tests/LanguageModelTests/Fixtures/tiny-llama.gguf

skip() { printf 'skipped: %s\n' "$*" >&2; exit 77; }
fail() { printf 'failed: %s\n' "$*" >&2; exit 1; }
needs() { for tool in "$@"; do command -v "$tool" > /dev/null || skip "$tool is not at hand"; done; }

# A directory that is gone at the end; functions named in `at_end` are called before.
scratch=$(mktemp -d)
at_end=()
clean() { for call in ${at_end[@]+"${at_end[@]}"}; do "$call" || true; done; rm -rf "$scratch" 2> /dev/null || { sleep 1; rm -rf "$scratch"; }; }
trap clean EXIT

# A short run of a tiny model: run.toml, train.jsonl, held-out.jsonl. The argument is the number of rounds.
make_run() {
    cat > run.toml << END
[task]
kind = "classification"
template = "{text} It was"
labels = { 0 = " bad", 1 = " good" }

[training]
train = "layers.2"
rounds = ${1:-8}
learning-rate = 1e-7
samples-per-round = 64
evaluate-every = 100
digest-every = 100
damped-components = "none"

[cluster]
minimum-workers = 2
END
    for number in $(seq 40); do printf '{"text": "film number %d", "label": "%d"}\n' "$number" $((number % 2)); done > train.jsonl
    for number in $(seq 41 60); do printf '{"text": "film number %d", "label": "%d"}\n' "$number" $((number % 2)); done > held-out.jsonl
}

# The digest that the workers of a run directory agreed on, and that a replay of its ledger gives, must be the same.
check_digests() {
    local replayed agreed
    replayed=$("$program" ledger replay "$1" --model "$tiny_model")
    agreed=$("$program" ledger show "$1" --records | sed -n 's/.* digest .*digest=\([0-9a-f]*\).*/\1/p' | tail -1)
    [ -n "$agreed" ] || fail "no digest is in the ledger"
    [ -n "$replayed" ] || fail 'the ledger can not be replayed'
    case $replayed in "$agreed"*) ;; *) fail "the workers agreed on $agreed, the replay gives $replayed" ;; esac
    printf 'digest %s\n' "$replayed"
}

#!/usr/bin/env bash
# A release is made, installed after a check of its sums, and refused if it is damaged. ONEBYTE_TEST_ROOTS=1, as root, also installs it in a bare
# Debian and a bare Ubuntu, made by debootstrap, and runs it there (ROOTS="bookworm noble" chooses; *_MIRROR say from where).
source "$(dirname "$0")/lib.sh"
needs dpkg-deb dpkg-shlibdeps sha256sum
program=${ONEBYTE_PORTABLE:-$repository/.build/portable/release/onebyte}
[ -x "$program" ] || skip 'make portable has not been run'
cd "$scratch"

ONEBYTE_PROGRAM=$program "$repository/deploy/package/make-package" release > files
version=$("$program" --version)
archive=$(ls release/*.tar.gz) package=$(ls release/*.deb)
dpkg-deb --field "$package" Depends | grep -q libzmq5 || fail 'the package does not depend on libzmq5'

release/install.sh --prefix "$scratch/usr"
[ "$("$scratch/usr/bin/onebyte" --version)" = "$version" ] || fail 'another version is installed'
[ -f "$scratch/usr/share/bash-completion/completions/onebyte" ] || fail 'there are no completions'

# What is damaged replaces nothing.
before=$(sha256sum < "$scratch/usr/bin/onebyte")
refused() { # STATUS WORDS FLAGS…
    local status=$1 words=$2 found=0
    shift 2
    release/install.sh --prefix "$scratch/usr" "$@" > log 2>&1 || found=$?
    [ "$found" = "$status" ] && grep -q "$words" log || { cat log >&2; fail "install.sh $* ended with $found"; }
    [ "$(sha256sum < "$scratch/usr/bin/onebyte")" = "$before" ] || fail 'the program was replaced'
}
refused 65 'not 00' --sums-sha256 "$(printf '%064d' 0)"
refused 66 'is not there' --from "$scratch/nowhere"
refused 64 'is not known' --prefix= 
cp "$archive" kept
printf 'x' | dd of="$archive" bs=1 seek=1000 conv=notrunc status=none
refused 65 'is damaged'
mv kept "$archive"
release/install.sh --prefix "$scratch/usr" --sums-sha256 "$(sha256sum < release/SHA256SUMS | cut -d ' ' -f 1)" > /dev/null

[ "${ONEBYTE_TEST_ROOTS:-}" = 1 ] || { printf 'ONEBYTE_TEST_ROOTS=1 also tries it in bare systems\n'; exit 0; }
[ "$(id -u)" = 0 ] || skip 'bare systems need root'
needs debootstrap chroot
root=$scratch/root
unmount() { umount "$root/proc" 2> /dev/null || true; }
at_end+=(unmount)
make_run 8
for suite in ${ROOTS:-bookworm noble}; do
    mirror=http://deb.debian.org/debian script=sid
    # Debian's debootstrap knows how to make any Ubuntu, not the names of all.
    case $suite in jammy | noble) mirror=http://archive.ubuntu.com/ubuntu script=gutsy ;; esac
    override=${suite}_MIRROR
    unmount
    rm -rf "$root"
    if ! debootstrap --variant=minbase --no-check-gpg "$suite" "$root" "${!override:-$mirror}" "/usr/share/debootstrap/scripts/$script" > debootstrap.log 2>&1; then
        tail -2 debootstrap.log >&2
        printf '%s: no such system could be made here\n' "$suite"
        continue
    fi
    case $suite in jammy | noble) sed -i 's/ main$/ main universe/' "$root/etc/apt/sources.list" ;; esac
    mount -t proc proc "$root/proc"
    mkdir "$root/release"
    cp release/* run.toml train.jsonl held-out.jsonl "$tiny_model" "$root/release/"
    inside() { chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root DEBIAN_FRONTEND=noninteractive sh -ec "cd /release; $1"; }
    # The archive says what is missing, and nothing is installed.
    if inside './install.sh' > log 2>&1; then fail "$suite: it was installed without its libraries"; fi
    grep -q 'apt-get install libzmq5 libopenblas0 libcurl4' log || { cat log >&2; fail "$suite: install.sh does not say what is missing"; }
    inside 'apt-get update -q > /dev/null; apt-get install -y -q --no-install-recommends ./*.deb > /dev/null 2>&1'
    printf -- '── %s\n' "$suite"
    inside 'ldd /usr/bin/onebyte; onebyte --version --verbose'
    inside 'onebyte cluster --config run.toml --model tiny-llama.gguf --train-file train.jsonl --eval-file held-out.jsonl --workers 2 --directory run > log 2>&1' \
        || { cat "$root/release/log" >&2; fail "$suite: the run failed"; }
    grep '^  digest' "$root/release/log"
    inside 'onebyte ledger verify run > /dev/null'
    # The archive goes beside the package.
    inside './install.sh --prefix /opt/onebyte && /opt/onebyte/bin/onebyte --version' | tail -1
done

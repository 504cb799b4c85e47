#!/bin/sh
# Installs a release of OneByte from an archive, after a check of its SHA-256:
#
#   ./install.sh                              from the directory in which this script lies
#   ./install.sh --from https://HOST/DIRECTORY     from there: SHA256SUMS and the archive for this machine
#   ./install.sh --prefix "$HOME/.local"      elsewhere than in /usr/local
#   ./install.sh --sums-sha256 HEX            only if SHA256SUMS itself has this SHA-256, which you got in another way
#
# Sums that come from the same place as the archive show that it arrived whole, not who made it. Nothing is replaced before the sum is right.
set -eu

usage() { sed -n '2,/^set/p' "$0" | sed '$d; s/^# \{0,1\}//'; }
fail() { printf 'install.sh: error: %s\n' "$1" >&2; exit "${2:-64}"; }
prefix=/usr/local
from=$(dirname "$0")
sums=
while [ $# -gt 0 ]; do
    case $1 in
        --prefix | --from | --sums-sha256) [ $# -ge 2 ] || fail "$1 needs a value" ;;
    esac
    case $1 in
        --prefix) prefix=$2; shift ;;
        --from) from=$2; shift ;;
        --sums-sha256) sums=$2; shift ;;
        -h | --help) usage; exit 0 ;;
        *) fail "$1 is not known; --help shows the flags" ;;
    esac
    shift
done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
get() { # NAME: a file of the release, in the working directory
    case $from in
        http://* | https://*)
            if command -v curl > /dev/null; then curl -fsSL --retry 3 -o "$work/$1" "$from/$1" || fail "can't download $from/$1" 69
            elif command -v wget > /dev/null; then wget -q -O "$work/$1" "$from/$1" || fail "can't download $from/$1" 69
            else fail 'neither curl nor wget is at hand' 69
            fi ;;
        *) [ -f "$from/$1" ] || fail "$from/$1 is not there; --from names the directory or address of a release" 66
            cp "$from/$1" "$work/$1" ;;
    esac
}

get SHA256SUMS
if [ -n "$sums" ]; then
    found=$(sha256sum "$work/SHA256SUMS" | cut -d ' ' -f 1)
    [ "$found" = "$sums" ] || fail "SHA256SUMS of $from has the SHA-256 $found, not $sums" 65
fi
machine=$(uname -m)
archive=$(sed -n "s/^[0-9a-f]\{64\}  \(onebyte-[^ /]*-linux-$machine\.tar\.gz\)\$/\1/p" "$work/SHA256SUMS")
case $archive in
    '') fail "$from has no archive for $machine: $(sed -n 's/^[0-9a-f]*  \(.*\.tar\.gz\)$/\1/p' "$work/SHA256SUMS" | tr '\n' ' ')" 69 ;;
    *"
"*) fail "$from has several archives for $machine; leave one in SHA256SUMS" 65 ;;
esac
get "$archive"
(cd "$work" && grep "  $archive\$" SHA256SUMS | sha256sum -c - > /dev/null 2>&1) || fail "$archive is damaged: its SHA-256 is not that of SHA256SUMS" 65

mkdir "$work/tree"
tar -xzf "$work/$archive" -C "$work/tree" --strip-components=1
# What the program needs must be there before the old one is replaced.
missing=$(ldd "$work/tree/bin/onebyte" 2>&1 | sed -n 's/^[[:space:]]*\([^ ]*\) => not found.*/\1/p' | tr '\n' ' ')
[ -z "$missing" ] || fail "libraries are missing: ${missing% }
on Debian and Ubuntu: apt-get install libzmq5 libopenblas0 libcurl4" 69
"$work/tree/bin/onebyte" --version > /dev/null || fail 'the program does not run on this machine' 69
mkdir -p "$prefix" 2> /dev/null && [ -w "$prefix" ] || fail "$prefix can't be written; run this as root, or say --prefix \"\$HOME/.local\"" 77
(cd "$work/tree" && find . -type d) | while read -r directory; do mkdir -p "$prefix/$directory"; done
# Each file appears whole: a running program keeps the old one.
(cd "$work/tree" && find . -type f) | while read -r file; do
    cp -p "$work/tree/$file" "$prefix/$file.new"
    mv -f "$prefix/$file.new" "$prefix/$file"
done
printf 'installed %s\n' "$("$prefix/bin/onebyte" --version)"
case :$PATH: in *":$prefix/bin:"*) ;; *) printf 'note: %s is not in PATH\n' "$prefix/bin" ;; esac

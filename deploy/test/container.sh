#!/usr/bin/env bash
# The image is built and runs without rights on a read-only root. Its base images come from a registry, so this is for who asks for it:
# ONEBYTE_TEST_CONTAINER=1, and BUILD_IMAGE and BASE_IMAGE where they have other names.
source "$(dirname "$0")/lib.sh"
file=$repository/deploy/container/Containerfile
# What must be so whoever builds it.
grep -q '^USER 65532:65532$' "$file" || fail 'it would run as root'
grep -q '^FROM ${BASE_IMAGE}$' "$file" || fail 'it has one stage only'
for path in Package.swift Sources Tests Benchmarks; do [ -e "$repository/$path" ] || fail "$path is copied and not there"; done
[ "${ONEBYTE_TEST_CONTAINER:-}" = 1 ] || skip 'ONEBYTE_TEST_CONTAINER=1 builds the image'
if command -v podman > /dev/null; then tool=podman; else needs docker; tool=docker; fi
arguments=()
for name in BUILD_IMAGE BASE_IMAGE; do [ -z "${!name:-}" ] || arguments+=(--build-arg "$name=${!name}"); done
"$tool" build --file "$file" --tag onebyte-test ${arguments[@]+"${arguments[@]}"} "$repository"
"$tool" run --rm --read-only --cap-drop=all --tmpfs /tmp onebyte-test --version
[ "$("$tool" run --rm --read-only --entrypoint id onebyte-test -u)" = 65532 ] || fail 'it runs as root'

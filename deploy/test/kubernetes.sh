#!/usr/bin/env bash
# The manifests build, and say what they must: nobody is root, nothing is written outside of volumes, each part is there.
source "$(dirname "$0")/lib.sh"
if command -v kustomize > /dev/null; then build=(kustomize build); else needs kubectl; build=(kubectl kustomize); fi

cd "$scratch"
"${build[@]}" "$repository/deploy/kubernetes" > all.yaml || fail 'they do not build'
for kind in Namespace ConfigMap Service StatefulSet Deployment PodDisruptionBudget HorizontalPodAutoscaler NetworkPolicy; do
    grep -q "^kind: $kind$" all.yaml || fail "no $kind"
done
# As many containers as locks.
containers=$(grep -c 'image: onebyte' all.yaml)
for line in 'readOnlyRootFilesystem: true' 'allowPrivilegeEscalation: false'; do
    [ "$(grep -c "$line" all.yaml)" -eq "$containers" ] || fail "not every container has $line"
done
[ "$(grep -c 'runAsNonRoot: true' all.yaml)" -eq 2 ] || fail 'a pod may be root'
[ "$(grep -c 'Probe:' all.yaml)" -ge 3 ] || fail 'the coordinator has no probes'

[ -x "$program" ] || skip "$program is not built"
# The pods' own command lines are understood, with the Secret as it is made.
ONEBYTE=$program "$repository/deploy/kubernetes/make-secret" > secret.yaml
join=$(sed -n 's/^  join: "\(.*\)"/\1/p' secret.yaml)
case $join in 'tcp://onebyte-coordinator:5151?key='*) ;; *) fail "no join string: $join" ;; esac
flags=$(sed -n '/^        - args:/,/^          [a-z]/p; /^      - args:/,/^        [a-z]/p' all.yaml | sed -n 's/^ *- \(--[a-z-]*\).*/\1/p' | sort -u)
help=$("$program" coordinator --help; "$program" worker --help)
for flag in $flags; do case $help in *"$flag"*) ;; *) fail "the pods use $flag, which no command has" ;; esac; done
[ -n "$flags" ] || fail 'no command line was found'
printf 'the manifests are whole\n'

#!/bin/sh
# Start this machine's part of a Ray cluster, as `python sweeps/pareto.py --address auto` wants it:
# with token authentication, and quick to notice a node that hangs.
#
#   deploy/ray-start.sh head [ray start options]             on the first machine
#   deploy/ray-start.sh worker HOST:6379 [ray start options] on each of the others
#
# All machines need the same token. `head` makes one where there is none; copy it to the others first:
#   scp -p ~/.ray/auth_token OTHER:.ray/auth_token
# or put it into RAY_AUTH_TOKEN, or into a file named by RAY_AUTH_TOKEN_PATH. See docs/cluster.md.
set -eu
umask 077  # what is made here, the token above all, is nobody else's to read

usage() {
    sed -n '2,/^set -eu/s/^# \{0,1\}//p' "$0" >&2
    exit 2
}

[ $# -ge 1 ] || usage
part=$1
shift

export RAY_AUTH_MODE=token
export RAY_USAGE_STATS_ENABLED=0
# A node is given up after three checks in a row without an answer: 3 x (1 s + 4 s) = 15 s.
export RAY_health_check_period_ms="${RAY_health_check_period_ms:-1000}"
export RAY_health_check_timeout_ms="${RAY_health_check_timeout_ms:-4000}"
export RAY_health_check_failure_threshold="${RAY_health_check_failure_threshold:-3}"

token=${RAY_AUTH_TOKEN_PATH:-$HOME/.ray/auth_token}
if [ -z "${RAY_AUTH_TOKEN:-}" ]; then
    if [ "$part" = head ] && [ ! -e "$token" ]; then
        mkdir -p "$(dirname "$token")"
        od -An -N32 -tx1 /dev/urandom | tr -d ' \n' > "$token"
        echo "Made a token in $token: copy it to the other machines." >&2
    fi
    if [ ! -s "$token" ]; then
        echo "ray-start.sh: no token in $token: copy the head node's there" >&2
        exit 2
    fi
    if [ -n "$(find -L "$token" -perm /077)" ]; then
        echo "ray-start.sh: $token can be read by others: chmod 600 $token" >&2
        exit 2
    fi
fi

case $part in
head)
    # The dashboard can start jobs, and nothing here needs it.
    exec ray start --head --port "${RAY_PORT:-6379}" --include-dashboard=false "$@"
    ;;
worker)
    [ $# -ge 1 ] || usage
    address=$1
    shift
    exec ray start --address "$address" "$@"
    ;;
*) usage ;;
esac

#!/bin/sh
# Has PostgreSQL write a checkpoint before file systems are frozen, so that recovery from the snapshot is short. No lock is
# needed: a snapshot of a frozen disk is one moment, and PostgreSQL starts from any moment, provided that data, WAL and
# tablespaces are all in the snapshot.
#
# Settings, in /etc/default/fsfreeze-postgresql:
#   PSQL   the client with its options (default: psql as the user postgres over the local socket)
set -u

case ${1:-} in
freeze) ;;
thaw) exit 0 ;;
*)
    echo "usage: $0 freeze|thaw" >&2
    exit 2
    ;;
esac

[ -r /etc/default/fsfreeze-postgresql ] && . /etc/default/fsfreeze-postgresql
if [ -z "${PSQL:-}" ]; then
    command -v psql >/dev/null || exit 0
    PSQL='setpriv --reuid=postgres --regid=postgres --init-groups psql --dbname=postgres'
fi

# Words of $PSQL are meant to be split.
# shellcheck disable=SC2086
client() {
    (cd / && $PSQL --no-psqlrc --no-password --quiet --tuples-only --command "$1")
}

if ! error=$(client 'SELECT 1' 2>&1 >/dev/null); then
    # A server that does not run needs no checkpoint; one that runs and lets nobody in is a fault.
    if pidof postgres >/dev/null 2>&1; then
        echo "$error" >&2
        exit 1
    fi
    exit 0
fi
# A standby checkpoints when it is told to by its primary, and refuses nothing.
client 'CHECKPOINT' >/dev/null

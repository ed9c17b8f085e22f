#!/bin/sh
# Holds MariaDB or MySQL still while file systems are frozen. The lock lives as long as a connection does, so a client in
# the background keeps one; it is ended at thaw, and by itself after MARIADB_MAX seconds.
#
# Settings, in /etc/default/fsfreeze-mariadb:
#   MARIADB        the client with its options (default: mariadb or mysql, as root over the local socket)
#   MARIADB_WAIT   seconds to wait for the lock (default: 30)
#   MARIADB_MAX    seconds after which the lock ends whatever happens (default: 900)
#   MARIADB_RUN    where the state is, which must not get frozen (default: /run/fsfreeze-mariadb)
set -u
umask 077

case ${1:-} in
freeze | thaw) ;;
*)
    echo "usage: $0 freeze|thaw" >&2
    exit 2
    ;;
esac

[ -r /etc/default/fsfreeze-mariadb ] && . /etc/default/fsfreeze-mariadb
WAIT=${MARIADB_WAIT:-30}
MAX=${MARIADB_MAX:-900}
RUN=${MARIADB_RUN:-/run/fsfreeze-mariadb}

# Words of $MARIADB are meant to be split.
# shellcheck disable=SC2086
client() {
    $MARIADB --batch --skip-column-names "$@"
}

release() {
    [ -r "$RUN/pid" ] || return 0
    read -r pid <"$RUN/pid"
    # It may have ended, and its number may be another's by now.
    if [ -n "$pid" ] && grep -q fsfreeze-lock "/proc/$pid/environ" 2>/dev/null; then
        # The whole group: the client and what feeds it.
        kill -TERM "-$pid" 2>/dev/null || kill -TERM "$pid" 2>/dev/null
    fi
    rm -rf "$RUN"
}

lock() {
    version=$(client -e 'SELECT VERSION()') || return 1
    case $version in
    *MariaDB*)
        major=${version%%.*}
        rest=${version#*.}
        minor=${rest%%.*}
        if [ "$major" -gt 10 ] || { [ "$major" -eq 10 ] && [ "$minor" -ge 4 ]; }; then
            echo 'BACKUP STAGE START; BACKUP STAGE FLUSH; BACKUP STAGE BLOCK_DDL; BACKUP STAGE BLOCK_COMMIT;'
        else
            echo 'FLUSH TABLES WITH READ LOCK;'
        fi
        ;;
    *) echo 'FLUSH TABLES WITH READ LOCK;' ;;
    esac
}

case $1 in
freeze)
    # Also where the client is gone: what an earlier call left behind must not stay.
    release
    if [ -z "${MARIADB:-}" ]; then
        MARIADB=$(command -v mariadb || command -v mysql) || exit 0
    fi
    client -e 'SELECT 1' >/dev/null 2>&1 || {
        # A server that does not run needs no lock; one that runs and lets nobody in is a fault.
        if pidof mariadbd mysqld >/dev/null 2>&1; then
            echo "no connection to the database server that runs" >&2
            exit 1
        fi
        exit 0
    }
    statements=$(lock) || exit 1
    mkdir -p "$RUN" || exit 1
    # Answers 1 when the lock is held. --unbuffered, so that the word is there as soon as the lock is; the sleep keeps the connection open.
    # shellcheck disable=SC2086
    fsfreeze_lock=fsfreeze-lock setsid sh -c '
        echo $$ >"$1/pid"
        { echo "SET SESSION wait_timeout = $2; $3 SELECT 1;"; exec sleep "$2"; } |
            '"$MARIADB"' --batch --skip-column-names --unbuffered >"$1/said" 2>"$1/error"
        echo ended >>"$1/said"
    ' sh "$RUN" "$MAX" "$statements" </dev/null >/dev/null 2>&1 &
    tries=$((WAIT * 10))
    while [ "$tries" -gt 0 ]; do
        { read -r word <"$RUN/said"; } 2>/dev/null || word=
        case $word in
        1) exit 0 ;;
        ended)
            cat "$RUN/error" >&2
            release
            exit 1
            ;;
        esac
        sleep 0.1
        tries=$((tries - 1))
    done
    echo "no lock after $WAIT seconds: a statement that runs for long holds it up" >&2
    release
    exit 1
    ;;
thaw) release ;;
esac

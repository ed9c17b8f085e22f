# Becomes a program, as the host wants it.
#
# PIDFILE MINUS STATE USER QUOTED DIRECTORY COUNT VARIABLE... PROGRAM ARGUMENT...
#   PIDFILE    gets what to kill, if it is not empty: a process, or its group if MINUS is '-'
#   STATE      1 if the program may write to its descriptor 3
#   USER       whose program it is to be; empty for the agent's own
#   QUOTED     the program and its arguments once more, as a shell reads them
#   DIRECTORY  where it starts
#   COUNT      of variables, each NAME=VALUE
fail() {
  echo "qga: $*" >&2
  exit 126
}
[ -z "$1" ] || echo "$2$$" >"$1"
[ "$3" = 1 ] || exec 3>&-
qga_user=$4 qga_quoted=$5 qga_directory=$6 qga_count=$7
shift 7
PATH=${PATH:-/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin}
export PATH
qga_become=''
if [ -n "$qga_user" ]; then
  qga_uid=$(id -u "$qga_user" 2>/dev/null) || fail "the guest has no user '$qga_user'"
  qga_gid=$(id -g "$qga_user")
  HOME=/ SHELL=/bin/sh USER=$qga_user LOGNAME=$qga_user
  export HOME SHELL USER LOGNAME
  qga_entries=$(getent passwd "$qga_user" 2>/dev/null || cat /etc/passwd)
  while IFS=: read -r _ _ qga_id _ _ qga_home qga_shell; do
    if [ "$qga_id" = "$qga_uid" ]; then
      HOME=$qga_home SHELL=${qga_shell:-/bin/sh}
      break
    fi
  done <<END
$qga_entries
END
  if [ "$qga_uid" != "$(id -u)" ]; then
    if setpriv --help 2>/dev/null | grep -q -e --init-groups; then
      qga_become=setpriv
    elif command -v runuser >/dev/null 2>&1; then
      qga_become=runuser
    elif command -v su >/dev/null 2>&1; then
      qga_become=su
    else
      fail "cannot become '$qga_user': the guest has none of setpriv, runuser and su"
    fi
  fi
  # As at a login, a home that is not there is no reason not to run.
  if [ -z "$qga_directory" ] && [ -d "$HOME" ]; then
    qga_directory=$HOME
  fi
elif [ -z "${HOME-}" ] && [ "$(id -u)" = 0 ]; then
  HOME=/root
  export HOME
fi
while [ "$qga_count" -gt 0 ]; do
  export "$1"
  shift
  qga_count=$((qga_count - 1))
done
unset CDPATH
cd -- "${qga_directory:-/}" >/dev/null 2>&1 || fail "cannot change to the directory '${qga_directory:-/}'"
case $qga_become in
  setpriv) exec setpriv --reuid "$qga_uid" --regid "$qga_gid" --init-groups -- "$@" ;;
  runuser) exec runuser -u "$qga_user" -- "$@" ;;
  su) exec su -s /bin/sh -c "exec $qga_quoted" "$qga_user" ;;
esac
exec "$@"

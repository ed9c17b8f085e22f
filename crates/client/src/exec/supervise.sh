# Runs a program in the guest and passes its streams on through files that the host reads and writes.
#
# NAME KEEP INPUT LAUNCHER ARGUMENT...
#   NAME      of the directory for the files
#   KEEP      seconds without a sign of life from the host after which all of this ends
#   INPUT     1 if the host sends standard input
#   LAUNCHER  the script that becomes the program, and its further arguments
#
# In the directory, which is the lease: when it is gone, everything here ends.
#   out.N err.N  what the program printed, in pieces; the host empties a piece that it has read
#   in.N, eof    what the program is to read, in pieces, and the mark behind the last one
#   ate          a line for each piece of input that is used up
#   code         "on" at the start, "exit N" when the program has ended, "out" and "err" at the end of
#                each stream, "full" when there was no room for one
#   state        what the program wrote to its descriptor 3
#   beat         gets longer while the host is there
#   pid          what to kill
#   done         made by the host when it has read everything
#
# Regular files, because an agent may wait for ever for the other end of a FIFO, or lose what it read from one.
PATH=${PATH:-/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin}
export PATH
piece=524288
pieces=4
mask=$(umask)
umask 077
d=
for base in /run /tmp; do
  if mkdir "$base/$1" 2>/dev/null; then
    d=$base/$1
    break
  fi
done
[ -n "$d" ] || exit 120
keep=$2 input=$3 launcher=$4
shift 4
if ! mkfifo "$d/i" "$d/o" "$d/e" || ! : | dd bs=1 count=1 || ! : | wc -c; then
  rm -rf "$d"
  exit 120
fi >/dev/null 2>&1

nap() {
  sleep "$1" 2>/dev/null || sleep 1
}

# Standard input goes into the pieces of this name. What dd reads it writes at once; it ends so that the size can be
# looked at.
collect() {
  n=0
  while [ -d "$d" ]; do
    moved=$(LC_ALL=C dd bs=65536 count=8 2>&1 >>"$d/$1.$n") || {
      [ ! -d "$d" ] || echo full >>"$d/code"
      break
    }
    case $moved in
      0+0*) break ;;
    esac
    size=$(wc -c <"$d/$1.$n") && [ "$size" -ge $piece ] || continue
    n=$((n + 1))
    : >"$d/$1.$n"
    while [ -s "$d/$1.$((n - pieces))" ]; do
      nap 0.02
    done
    rm -f "$d/$1.$((n - pieces))"
  done
  : >"$d/$1.end"
  echo "$1" >>"$d/code"
} 2>/dev/null

# The pieces of input go to standard output.
feed() {
  n=0 idle=0 last=0
  exec 3<"$d/in.0"
  while [ -d "$d" ]; do
    moved=$(LC_ALL=C dd bs=65536 <&3 2>&1 >&4) || break
    case $moved in
      0+0*) ;;
      *)
        idle=0 last=0
        continue
        ;;
    esac
    # What is written before the next piece or the mark is made is there when it is read once more.
    if [ -e "$d/in.$((n + 1))" ]; then
      if [ $last = 1 ]; then
        rm -f "$d/in.$n"
        n=$((n + 1))
        exec 3<"$d/in.$n"
        echo >>"$d/ate"
        last=0
      else
        last=1
      fi
    elif [ -e "$d/eof" ]; then
      [ $last = 0 ] || break
      last=1
    else
      last=0 idle=$((idle + 1))
      if [ $idle -lt 40 ]; then nap 0.05; else nap 0.2; fi
    fi
  done
} 4>&1 2>/dev/null

# Ends everything when the host, or the supervisor, is no longer there.
watch() {
  last='' left=$keep
  while sleep 1 && [ -d "$d" ]; do
    now=$(wc -c <"$d/beat")
    if [ "$now" = "$last" ]; then
      left=$((left - 1))
    else
      last=$now left=$keep
    fi
    if [ $left -gt 0 ] && kill -0 $$; then
      continue
    fi
    if read -r group <"$d/pid"; then
      kill -TERM "$group"
      sleep 2
      if read -r group <"$d/pid"; then
        kill -KILL "$group"
      fi
    fi
    sweep
  done
} 2>/dev/null

# Memory goes back also where the agent still holds a file that nobody will close.
sweep() {
  for file in "$d"/out.* "$d"/err.* "$d"/in.*; do
    [ ! -f "$file" ] || : >"$file"
  done
  rm -rf "$d"
}

session='' minus=''
if command -v setsid >/dev/null 2>&1; then
  session=setsid minus=-
fi
plain=''
if env --default-signal=PIPE true >/dev/null 2>&1; then
  plain='env --default-signal=PIPE'
fi
# What has something in it gets longer also where there is no room left.
echo >"$d/beat"
: >"$d/ate"
: >"$d/out.0"
: >"$d/err.0"
watch &
collect out <"$d/o" &
out=$!
collect err <"$d/e" &
err=$!
from=/dev/null
if [ "$input" = 1 ]; then
  from=$d/i
  : >"$d/in.0"
  feed >"$d/i" &
fi
echo on >"$d/code"
(
  umask "$mask"
  cd /
  exec $session $plain /bin/sh -c "$launcher" qga "$d/pid" "$minus" "$@"
) <"$from" >"$d/o" 2>"$d/e" 3>"$d/state"
code=$?
[ -d "$d" ] || exit 0
# A group whose leader has ended keeps its number while it has members.
read -r group <"$d/pid" && [ -n "$minus" ] && kill -0 "$group" 2>/dev/null || rm -f "$d/pid"
echo "exit $code" >>"$d/code"
while [ -d "$d" ] && [ ! -e "$d/done" ]; do
  nap 0.05
done
[ -e "$d/out.end" ] || kill "$out"
[ -e "$d/err.end" ] || kill "$err"
sweep
exit 0

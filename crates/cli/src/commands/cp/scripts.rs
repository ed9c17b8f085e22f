//! What is done in the guest with its own standard tools, through `guest-exec`: those of POSIX, and `stat`, `readlink`,
//! `sha256sum` and `sync` as GNU and busybox have them.

/// In front of every script: messages in one language, and a path that has what is needed.
pub(super) const START: &str = "LC_ALL=C; export LC_ALL; PATH=\"$PATH:/usr/sbin:/usr/bin:/sbin:/bin\"; export PATH\n";

/// What a file is, `$1`; links are followed.
pub(super) const STAT: &str = r#"
if [ ! -e "$1" ]; then
  if [ -h "$1" ]; then echo "$1: the link leads nowhere" >&2; else echo "$1: No such file or directory" >&2; fi
  exit 1
fi
stat -L -c '%f %u %g %s %Y %b %y' -- "$1"
"#;

/// Everything below the directory `$1`, itself included: a line as above, the name, the target of a link. GNU's find
/// tells all by itself, with the type as a letter and the mode in octal; others take a program for each file.
pub(super) const LIST: &str = r#"
if find / -maxdepth 0 -printf '' 2> /dev/null; then
  exec find "$1/" -printf '%y %m %U %G %s %T@ %b\n%p\0%l\0'
fi
find "$1/" -exec sh -c 'for f; do
  stat -c "%f %u %g %s %Y %b %y" -- "$f" || continue
  printf "%s\0" "$f"
  if [ -h "$f" ]; then readlink -- "$f"; fi
  printf "\0"
done' sh {} +
"#;

/// Makes room for a file at `$1`: prints what is there (`dir`, `special`, `file`), the path behind links, the partial
/// file beside it and its length. A partial file that is no plain file of ours is removed, and with `$2` any.
pub(super) const PREPARE: &str = r#"
umask 077
d=$1
if [ -d "$d" ]; then printf 'dir\0'; exit 0; fi
case $d in */) echo "$d: no such directory" >&2; exit 1;; esac
if [ -h "$d" ]; then d=$(readlink -f -- "$d" && printf x) || { echo "$1: the link leads nowhere" >&2; exit 1; }; d=${d%??}; fi
if [ -e "$d" ] && [ ! -f "$d" ]; then printf 'special\0%s\0' "$d"; exit 0; fi
b=${d##*/}
if [ ! -d "${d%/*}/" ]; then echo "${d%/*}: no such directory" >&2; exit 1; fi
if [ ${#b} -gt 100 ]; then b=$(printf %s "$b" | cksum | tr ' ' -); fi
p=${d%/*}/.$b.qga-part
if [ "$2" = fresh ] || [ -h "$p" ] || { [ -e "$p" ] && { [ ! -f "$p" ] || [ ! -O "$p" ]; }; }; then
  rm -f -- "$p" || exit 1
fi
if [ -e "$p" ]; then n=$(stat -c %s -- "$p") || exit 1; else set -C; : > "$p" || exit 1; n=0; fi
printf 'file\0%s\0%s\0%s\0' "$d" "$p" "$n"
"#;

/// Makes an empty partial file for each plain file to be: place and partial file by turns. Answers with a line for each:
/// `y`, or `n` where that is not so simple.
pub(super) const PREPARE_MANY: &str = r#"
umask 077; set -C
while [ $# -gt 1 ]; do
  r=n; b=${1##*/}
  if [ ${#b} -le 100 ] && [ -d "${1%/*}/" ] && [ ! -h "$1" ] && { [ ! -e "$1" ] || [ -f "$1" ]; }; then
    if [ -e "$2" ] || [ -h "$2" ]; then rm -f -- "$2"; fi
    if printf '' > "$2"; then r=y; fi
  fi
  echo $r; shift 2
done
"#;

/// The checksum of each of these files, in one program: 100 of them cost hardly more than one.
pub(super) const HASH_MANY: &str = r#"
command -v sha256sum > /dev/null 2>&1 || exit 127
sha256sum -- "$@"
exit 0
"#;

/// Puts files in place that all get mode `$1` and, if given, owner `$2` (with a question mark in front of it: unless they
/// replace a file, whose owner they get): partial file, place, and time if given, by turns. Answers with a line for each:
/// `y`, or `n` where that failed.
pub(super) const PLACE_MANY: &str = r#"
m=$1; o=${2#\?}; k=
if [ "$o" != "$2" ] || [ -z "$o" ]; then k=y; fi
shift 2
# The partial files as they are written in a command: "${1}" "${4}" "${7}". One chmod for all of them.
i=1; p=
while [ $i -lt $# ]; do p="$p \"\${$i}\""; i=$((i + 3)); done
if [ -n "$o" ]; then eval "chown \"\$o\" $p" || [ -n "$k" ] || exit 1; fi
eval "chmod \"\$m\" $p" || exit 1
while [ $# -gt 2 ]; do
  r=y
  if [ -n "$k" ] && [ -e "$2" ]; then chown "$(stat -c %u:%g -- "$2")" "$1" || r=n; fi
  if [ -n "$3" ]; then touch -m -d "@$3" "$1" 2> /dev/null || touch -m -d "@${3%.*}" "$1" || r=n; fi
  if [ $r = y ]; then mv -f -- "$1" "$2" || r=n; fi
  echo $r; shift 3
done
"#;

/// Removes files.
pub(super) const REMOVE: &str = r#"
rm -f -- "$@"
"#;

/// The checksum of the first `$2` bytes of `$1`, or of all of it without `$2`.
pub(super) const HASH: &str = r#"
command -v sha256sum > /dev/null 2>&1 || exit 127
if [ -n "$2" ]; then head -c "$2" -- "$1" | sha256sum; else sha256sum < "$1"; fi
"#;

/// Puts the partial file `$1` in place as `$2`, with mode `$3`, owner `$4` (with a question mark in front of it: unless a
/// file is replaced, whose owner it gets) and time `$5` if given, checked against the checksum `$6` if given, and written
/// to the disk first with `$7`. Prints how the check went.
pub(super) const FINISH: &str = r#"
v=unchecked
if [ -n "$6" ]; then
  if command -v sha256sum > /dev/null 2>&1; then
    s=$(sha256sum < "$1") || exit 1
    if [ "${s%% *}" != "$6" ]; then rm -f -- "$1"; printf corrupt; exit 0; fi
    v=verified
  fi
fi
o=${4#\?}
if [ -n "$o" ] && [ "$o" = "$4" ]; then chown "$o" "$1" || exit 1
elif [ -e "$2" ]; then chown "$(stat -c %u:%g -- "$2")" "$1" || exit 1
elif [ -n "$o" ]; then chown "$o" "$1" 2> /dev/null; fi
chmod "$3" "$1" || exit 1
if [ -n "$5" ]; then touch -m -d "@$5" "$1" 2> /dev/null || touch -m -d "@${5%.*}" "$1" || exit 1; fi
if [ -n "$7" ]; then sync "$1" 2> /dev/null; fi
mv -f -- "$1" "$2" || exit 1
printf %s "$v"
"#;

/// Sets mode, owner (with a question mark in front of it: if it can be set) and time, where given: path, mode, owner and
/// time by turns. Answers with a line for each: `y`, or
/// `n` where that failed.
pub(super) const DRESS: &str = r#"
e=0
while [ $# -gt 3 ]; do
  r=y
  o=${3#\?}
  if [ -n "$o" ]; then chown "$o" "$1" || [ "$o" != "$3" ] || r=n; fi
  if [ -n "$2" ]; then chmod "$2" "$1" || r=n; fi
  if [ -n "$4" ]; then touch -m -d "@$4" "$1" 2> /dev/null || touch -m -d "@${4%.*}" "$1" || r=n; fi
  echo $r; shift 4
  if [ $r = n ]; then e=1; fi
done
exit $e
"#;

/// Makes the directories that are not there yet, and prints the number of each that it made.
pub(super) const MAKE_DIRECTORIES: &str = r#"
umask 077
n=0; r=0
for d; do
  if [ ! -d "$d" ]; then if mkdir -- "$d"; then echo $n; else r=1; fi; fi
  n=$((n + 1))
done
exit $r
"#;

/// Makes links: target, path, and owner if given (with a question mark as above), by turns. Answers with a line for each:
/// `y`, or `n` where that failed.
pub(super) const MAKE_LINKS: &str = r#"
e=0
while [ $# -gt 2 ]; do
  r=n
  if [ -d "$2" ] && [ ! -h "$2" ]; then echo "$2: is a directory" >&2
  elif ln -sfn -- "$1" "$2"; then
    o=${3#\?}
    if [ -z "$o" ] || chown -h "$o" "$2" || [ "$o" != "$3" ]; then r=y; fi
  fi
  echo $r; shift 3
  if [ $r = n ]; then e=1; fi
done
exit $e
"#;

/// Where the data of `$1` lies: the extents, in blocks of the size that the line in front says.
pub(super) const EXTENTS: &str = r#"
command -v filefrag > /dev/null 2>&1 || exit 127
filefrag -s -b4096 -v -- "$1"
"#;

/// Whether `$1` is a directory: prints something if so.
pub(super) const IS_DIRECTORY: &str = r#"
if [ -d "$1" ]; then echo yes; fi
"#;

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::Command;

    use super::*;

    fn answer(directory: &Path, script: &str, args: &[&str]) -> String {
        let output = Command::new("sh").args(["-c", script, "sh"]).args(args).current_dir(directory).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    #[test]
    fn an_owner_that_cannot_be_set_fails_only_what_asked_for_it() {
        let dir = tempfile::tempdir().unwrap();
        // As on a file system without owners.
        for (owner, told) in [("?no such user", "y\n"), ("no such user", "n\n")] {
            assert_eq!(answer(dir.path(), DRESS, &[".", "755", owner, ""]), told);
            assert_eq!(answer(dir.path(), MAKE_LINKS, &["to", "link", owner]), told);
            std::fs::write(dir.path().join("part"), "x").unwrap();
            let placed = if told == "y\n" { told } else { "" };
            let many = if told == "y\n" { "many" } else { "other" };
            assert_eq!(answer(dir.path(), PLACE_MANY, &["644", owner, "part", many, ""]), placed);
            std::fs::write(dir.path().join("part"), "x").unwrap();
            let finished = if told == "y\n" { "unchecked" } else { "" };
            assert_eq!(answer(dir.path(), FINISH, &["part", "file", "644", owner, "", "", ""]), finished);
        }
    }
}

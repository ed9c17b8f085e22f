# STATE LINE: runs a line in the environment and directory that an earlier one has left behind, and leaves its own.
eval "$1"
qga_old=${OLDPWD-}
cd -- "$PWD" 2>/dev/null
OLDPWD=$qga_old
unset qga_old
trap '{ printf "# %s\n" "$(pwd | head -n 1)"; export PWD OLDPWD; export -p; } >&3' 0
set -a
eval "$2"

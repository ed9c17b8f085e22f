# DIRECTORY SIGNAL: sends a signal to what runs there.
read -r group <"$1/pid" && kill "-$2" "$group"

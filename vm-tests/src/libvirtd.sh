# Runs libvirtd where it can neither see nor change the host: $1 is the directory for its configuration and socket.
# This is process 1 of a PID namespace, so that the machines it starts end with it.
set -e
directory=$1
libvirtd=$2

# Device files without /dev/kvm: libvirt probes every accelerator it finds.
mount -t tmpfs -o mode=755 tmpfs "$directory/dev"
for name in null zero full random urandom; do
    touch "$directory/dev/$name"
    mount --bind "/dev/$name" "$directory/dev/$name"
done
mkdir "$directory/dev/pts" "$directory/dev/shm"
mount -t devpts -o newinstance,ptmxmode=666,mode=620 devpts "$directory/dev/pts"
ln -s pts/ptmx "$directory/dev/ptmx"
mount --rbind "$directory/dev" /dev

mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /etc/libvirt /var/lib/libvirt /var/cache/libvirt /var/log/libvirt
for path in /var/lib/libvirt /var/cache/libvirt /var/log/libvirt; do
    mount -t tmpfs tmpfs "$path"
done
mount --bind "$directory/etc" /etc/libvirt
# libvirt looks its own user up even when told to use root. A package that is not needed otherwise would make it.
for name in passwd group; do
    cp "/etc/$name" "$directory/$name"
    mount --bind "$directory/$name" "/etc/$name"
done
echo "libvirt-qemu:x:0:0::/:/bin/false" >>/etc/passwd
echo "libvirt-qemu:x:0:" >>/etc/group
# Without cgroups libvirt asks no systemd for them.
while umount -l /sys/fs/cgroup 2>/dev/null; do :; done

# All of this ends with the daemon, unless that was asked for: by a signal's name written to "control", after which the
# next one is started. (Open both ways: so it never comes to an end.)
mkfifo "$directory/control"
while read -r signal; do
    read -r number <"$directory/libvirtd.number"
    touch "$directory/again"
    kill -s "$signal" "$number"
done <>"$directory/control" &
while
    rm -f "$directory/again"
    "$libvirtd" -f "$directory/etc/libvirtd.conf" &
    number=$!
    echo $number >"$directory/libvirtd.number"
    wait $number
    [ -e "$directory/again" ]
do :; done

//! Ansible, with the connection that goes through libvirt and the agent.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use qga_testkit::{python, wait};
use sha2::{Digest, Sha256};
use vm_tests::disks::Disk;
use vm_tests::libvirt::DOMAIN;
use vm_tests::process;

use crate::Guest;

/// Ansible's modules need Python in the guest: the host's own, on a disk that only this case plugs in.
fn plug_python(guest: &mut Guest, directory: &Path) {
    let disk = Disk::python(directory);
    let libvirt = &mut guest.libvirt;
    let path = disk.path.to_string_lossy();
    libvirt.virsh(&["attach-disk", DOMAIN, &path, "vdp", "--targetbus", "virtio", "--mode", "readonly"]);
    // The kernel gives the next free letter.
    wait::until("the disk with Python", Duration::from_secs(60), || {
        libvirt.shell.succeeds("[ -e /dev/vdb ]").then_some(())
    });
    libvirt.shell.run(
        "mkdir -p /mnt/python && mount -o ro /dev/vdb /mnt/python
        cd /mnt/python && for file in lib/*/*; do [ -e /$file ] || ln -s /mnt/python/$file /$file; done; cd /
        /mnt/python/usr/bin/python3 -c 'import json, zlib'",
    );
}

fn unplug_python(guest: &mut Guest) {
    guest.libvirt.shell.run("umount /mnt/python");
    guest.libvirt.virsh(&["detach-disk", DOMAIN, "vdp"]);
    wait::until("the disk with Python gone", Duration::from_secs(60), || {
        guest.libvirt.shell.succeeds("[ ! -e /dev/vdb ]").then_some(())
    });
}

pub(crate) fn ansible_runs_commands_and_copies_files(guest: &mut Guest) {
    let Some(interpreter) = python::interpreter("ansible") else { return };
    let environment = interpreter.ancestors().nth(2).unwrap();
    let directory = tempfile::Builder::new().prefix("vm-ansible-").tempdir().unwrap();
    plug_python(guest, directory.path());

    // More than Ansible reads at a time.
    let bytes: Vec<u8> = (0..300_000u32).flat_map(|number| number.to_le_bytes()[..2].to_owned()).collect();
    let sum: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    let path = |name: &str| directory.path().join(name);
    fs::write(path("source"), &bytes).unwrap();
    fs::write(path("source.sha256"), &sum).unwrap();
    let inventory = format!(
        "[all]\n{DOMAIN} ansible_connection=community.libvirt.libvirt_qemu ansible_libvirt_uri='{}' \
         ansible_python_interpreter=/mnt/python/usr/bin/python3 ansible_remote_tmp=/run/ansible\n",
        guest.libvirt.uri()
    );
    fs::write(path("inventory"), inventory).unwrap();

    let mut command = Command::new("timeout");
    command.arg("300").arg(&interpreter).arg(environment.join("bin/ansible-playbook"));
    command.arg("--inventory").arg(path("inventory"));
    for (name, file) in [("source", "source"), ("fetched", "fetched")] {
        command.arg("--extra-vars").arg(format!("{name}={}", path(file).display()));
    }
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/ansible/playbook.yml"));
    command.env("LC_ALL", "C.UTF-8").env("ANSIBLE_NOCOLOR", "1").env("ANSIBLE_HOME", path("home"));
    // No configuration of this host's.
    fs::write(path("ansible.cfg"), "").unwrap();
    command.env("ANSIBLE_CONFIG", path("ansible.cfg"));
    command.env("ANSIBLE_COLLECTIONS_PATH", environment.join("collections"));
    let output = process::output(&mut command);
    assert!(output.status.success(), "{}", process::text(&output));

    let shell = &mut guest.libvirt.shell;
    assert_eq!(shell.run("sha256sum </root/copied | cut -d' ' -f1"), sum);
    assert_eq!(shell.run("stat -c %a /root/copied"), "640");
    assert!(fs::read(path("fetched")).unwrap() == bytes, "what came back is not what went");
    shell.run("rm -r /root/copied /run/ansible");
    unplug_python(guest);
}

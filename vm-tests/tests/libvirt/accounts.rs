//! `virsh set-user-password`, `get-user-sshkeys` and `set-user-sshkeys`, against the guest's files.

use std::fs;

use vm_tests::libvirt::{DOMAIN, Libvirt};
use vm_tests::process;

use crate::Guest;

/// Makes the account `alice`, with a home and no password, unless it is there.
fn make_alice(libvirt: &mut Libvirt) {
    libvirt.shell.run(
        "grep -q ^alice: /etc/passwd || {
            echo alice:x:1000:1001::/home/alice:/bin/sh >>/etc/passwd
            echo 'alice:!:19000:0:99999:7:::' >>/etc/shadow
            mkdir -p /home/alice && chown 1000:1001 /home/alice && chmod 700 /home/alice
        }",
    );
}

/// The second field of the account's line in `/etc/shadow`.
fn hash(libvirt: &mut Libvirt) -> String {
    libvirt.shell.run("grep ^alice: /etc/shadow | cut -d: -f2")
}

/// What crypt makes of a password, by busybox.
fn crypt(libvirt: &mut Libvirt, salt: &str, password: &str) -> String {
    libvirt.shell.run(&format!("mkpasswd -m sha512 -S '{salt}' '{password}'"))
}

pub(crate) fn set_user_password_is_the_hash_in_etc_shadow(guest: &mut Guest) {
    let libvirt = &mut guest.libvirt;
    make_alice(libvirt);
    let root = libvirt.shell.run("grep ^root: /etc/shadow");
    libvirt.virsh(&["set-user-password", DOMAIN, "alice", "open sesame"]);
    let stored = hash(libvirt);
    let salt = stored.split('$').nth(2).unwrap_or_else(|| panic!("no hash of a password: '{stored}'")).to_owned();
    assert_eq!(stored, crypt(libvirt, &salt, "open sesame"));

    let ready = crypt(libvirt, "saltsalt", "hunter2");
    libvirt.virsh(&["set-user-password", DOMAIN, "alice", &ready, "--encrypted"]);
    assert_eq!(hash(libvirt), ready);

    let output = libvirt.try_virsh(&["set-user-password", DOMAIN, "nobody-there", "x"]);
    assert!(!output.status.success());
    let text = process::text(&output);
    assert!(text.contains("child process has failed to set user password"), "{text}");
    assert_eq!(libvirt.shell.run("grep ^root: /etc/shadow"), root);
}

pub(crate) fn the_ssh_keys_of_a_user_are_set_listed_removed_and_replaced(guest: &mut Guest) {
    let libvirt = &mut guest.libvirt;
    make_alice(libvirt);
    let keys = ["ssh-ed25519 AAAA one", "ssh-rsa BBBB two", "ssh-ed25519 CCCC three"];
    let directory = tempfile::tempdir().unwrap();
    let set = |libvirt: &Libvirt, keys: &[&str], options: &[&str]| {
        let file = directory.path().join("keys");
        fs::write(&file, keys.iter().map(|key| format!("{key}\n")).collect::<String>()).unwrap();
        let file = file.to_string_lossy();
        libvirt.virsh(&[&["set-user-sshkeys", DOMAIN, "alice", "--file", &file], options].concat());
    };
    let stored = |libvirt: &mut Libvirt| libvirt.shell.run("cat /home/alice/.ssh/authorized_keys");
    // Some versions of virsh print the keys without a line end between them.
    let told = |libvirt: &Libvirt| libvirt.virsh(&["get-user-sshkeys", DOMAIN, "alice"]).replace('\n', "");

    set(libvirt, &keys[..2], &[]);
    assert_eq!(stored(libvirt), keys[..2].join("\n"));
    assert_eq!(
        libvirt.shell.run("stat -c '%u:%g %a' /home/alice/.ssh /home/alice/.ssh/authorized_keys"),
        "1000:1001 700\n1000:1001 600"
    );
    let listed = told(libvirt);
    assert_eq!(listed.len(), keys[0].len() + keys[1].len());
    assert!(listed.contains(keys[0]) && listed.contains(keys[1]), "{listed}");
    // Again, with one that is there: nothing stands twice.
    set(libvirt, &keys[1..], &[]);
    assert_eq!(stored(libvirt), keys.join("\n"));
    // The file's last newline makes an empty key for virsh, which must not cost the user an empty line.
    libvirt.shell.run("(echo; echo '# by hand'; echo) >>/home/alice/.ssh/authorized_keys");
    set(libvirt, &keys[..1], &["--remove"]);
    assert_eq!(stored(libvirt), format!("{}\n\n# by hand", keys[1..].join("\n")));
    assert_eq!(libvirt.shell.number("grep -c '^$' /home/alice/.ssh/authorized_keys"), 2);
    set(libvirt, &keys[..1], &["--reset"]);
    assert_eq!(stored(libvirt), keys[0]);
    assert_eq!(told(libvirt), keys[0]);
    // Without a file: no keys at all.
    libvirt.virsh(&["set-user-sshkeys", DOMAIN, "alice", "--reset"]);
    assert_eq!(stored(libvirt), "");

    let output = libvirt.try_virsh(&["get-user-sshkeys", DOMAIN, "nobody-there"]);
    assert!(!output.status.success());
    assert!(process::text(&output).contains("nobody-there"), "{}", process::text(&output));
}

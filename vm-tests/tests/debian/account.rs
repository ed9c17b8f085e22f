//! Passwords and keys, as PAM and the user see them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::Guest;

/// Whether somebody without any rights becomes alice with this password.
fn lets_in(guest: &mut Guest, password: &str) -> bool {
    let script = format!(
        "printf '%s\\n' '{password}' >/run/password
        setpriv --reuid=65534 --regid=65534 --clear-groups su alice -c 'id -un' </run/password | grep -qx alice
        status=$?; rm /run/password; [ $status = 0 ]"
    );
    guest.machine.shell.succeeds(&script)
}

/// The second field of the account's line in `/etc/shadow`.
fn hash(guest: &mut Guest, user: &str) -> String {
    guest.machine.shell.run(&format!("grep ^{user}: /etc/shadow | cut -d: -f2"))
}

pub(crate) fn a_password_set_by_the_host_lets_its_user_in_and_no_other_does(guest: &mut Guest) {
    let root = hash(guest, "root");
    for password in ["correct horse", "h\u{fc}te: & \\ -e %s"] {
        let arguments = json!({ "username": "alice", "password": STANDARD.encode(password), "crypted": false });
        assert_eq!(guest.call("guest-set-user-password", arguments), json!({}));
        // As PAM is set up in Debian 12 and later.
        let stored = hash(guest, "alice");
        assert!(stored.starts_with("$y$"), "{stored}");
        assert!(lets_in(guest, password), "'{password}' does not let in");
    }
    assert!(!lets_in(guest, "correct horse"), "the password of before lets in");
    assert_eq!(hash(guest, "root"), root);
    let arguments = json!({ "username": "nosuch", "password": STANDARD.encode("x"), "crypted": false });
    let error = guest.machine.agent().call("guest-set-user-password", arguments).unwrap_err();
    assert!(error.desc.starts_with("child process has failed to set user password"), "{error}");
    let found = guest.machine.shell.run("journalctl --boot --output=cat | grep -F -e 'correct horse' -e 'te: & '; :");
    assert_eq!(found, "", "a password in the journal");
}

pub(crate) fn a_hash_set_by_the_host_lets_its_user_in(guest: &mut Guest) {
    let hashed = guest.machine.shell.run("perl -e 'print crypt(\"hunter2\", q($6$saltsalt$))'");
    assert!(hashed.starts_with("$6$saltsalt$"), "{hashed}");
    let arguments = json!({ "username": "alice", "password": STANDARD.encode(&hashed), "crypted": true });
    assert_eq!(guest.call("guest-set-user-password", arguments), json!({}));
    assert_eq!(hash(guest, "alice"), hashed);
    assert!(lets_in(guest, "hunter2"));
}

pub(crate) fn a_key_added_by_the_host_is_the_users_own(guest: &mut Guest) {
    let keys = ["ssh-ed25519 AAAA one", "ssh-rsa BBBB two"];
    guest.call("guest-ssh-add-authorized-keys", json!({ "username": "alice", "keys": keys }));
    let shell = &mut guest.machine.shell;
    let modes = shell.run("stat -c '%n %U:%G %a' /home/alice/.ssh /home/alice/.ssh/*");
    assert_eq!(modes, "/home/alice/.ssh alice:alice 700\n/home/alice/.ssh/authorized_keys alice:alice 600");
    let as_alice = "setpriv --reuid=alice --regid=alice --init-groups";
    assert_eq!(shell.run(&format!("{as_alice} cat /home/alice/.ssh/authorized_keys")), keys.join("\n"));
    // What she adds herself stays.
    shell.run(&format!("{as_alice} sh -c 'echo ssh-rsa CCCC three >>/home/alice/.ssh/authorized_keys'"));
    guest.call("guest-ssh-remove-authorized-keys", json!({ "username": "alice", "keys": [keys[0]] }));
    let listed = guest.call("guest-ssh-get-authorized-keys", json!({ "username": "alice" }));
    let mut listed: Vec<_> = listed["keys"].as_array().unwrap().iter().filter_map(|key| key.as_str()).collect();
    listed.sort_unstable();
    assert_eq!(listed, [keys[1], "ssh-rsa CCCC three"]);
    guest.machine.shell.run("rm -r /home/alice/.ssh");
}

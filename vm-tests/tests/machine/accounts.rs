//! Passwords and keys: seen in `/etc/shadow` and in the user's home, not in the reply.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use vm_tests::Machine;

use crate::Guest;

/// Makes the account `alice`, with a home and no password, unless it is there.
fn make_alice(machine: &mut Machine) {
    machine.shell.run(
        "grep -q ^alice: /etc/passwd || {
            echo alice:x:1000:1001::/home/alice:/bin/sh >>/etc/passwd
            echo 'alice:!:19000:0:99999:7:::' >>/etc/shadow
            echo 'staff:x:50:alice' >>/etc/group
            mkdir -p /home/alice && chown 1000:1001 /home/alice && chmod 700 /home/alice
        }",
    );
}

/// The second field of the account's line in `/etc/shadow`.
fn hash_of(machine: &mut Machine, user: &str) -> String {
    machine.shell.run(&format!("grep ^{user}: /etc/shadow | cut -d: -f2"))
}

/// What crypt makes of a password, by busybox.
fn crypt(machine: &mut Machine, salt: &str, password: &str) -> String {
    machine.shell.run(&format!("mkpasswd -m sha512 -S '{salt}' '{password}'"))
}

pub(crate) fn a_password_set_by_the_host_is_the_hash_in_etc_shadow(guest: &mut Guest) {
    let machine = &mut guest.machine;
    make_alice(machine);
    let root = hash_of(machine, "root");
    for password in ["s3cret", "h\u{fc}te: & \\ -e"] {
        // Wrapped and ended by a newline, as Proxmox does.
        let encoded = STANDARD.encode(password);
        let (front, back) = encoded.split_at(4);
        let arguments = json!({ "username": "alice", "password": format!("{front}\n{back}\n"), "crypted": false });
        assert_eq!(machine.agent().call("guest-set-user-password", arguments), Ok(json!({})));
        let hash = hash_of(machine, "alice");
        let salt = hash.split('$').nth(2).unwrap_or_else(|| panic!("no hash of a password: '{hash}'")).to_owned();
        assert_eq!(hash, crypt(machine, &salt, password));
        assert_ne!(hash, crypt(machine, &salt, "s3cre"));
    }
    assert_eq!(hash_of(machine, "root"), root);
    let log = machine.shell.run("cat /run/qga/log /run/qga/output 2>/dev/null; :");
    assert!(!log.contains("s3cret") && !log.contains(&STANDARD.encode("s3cret")), "{log}");
}

pub(crate) fn a_hash_set_by_the_host_is_stored_as_it_is(guest: &mut Guest) {
    let machine = &mut guest.machine;
    make_alice(machine);
    let hash = crypt(machine, "saltsalt", "hunter2");
    let mut agent = machine.agent();
    let mut set = |user: &str, hash: &str| {
        let arguments = json!({ "username": user, "password": STANDARD.encode(hash), "crypted": true });
        agent.call("guest-set-user-password", arguments).map_err(|error| error.desc)
    };
    assert_eq!(set("alice", &hash), Ok(json!({})));
    let before = machine.shell.run("cat /etc/shadow");
    assert_eq!(hash_of(machine, "alice"), hash);
    let unknown = set("nosuch", &hash).unwrap_err();
    assert!(unknown.starts_with("child process has failed to set user password"), "{unknown}");
    set("alice", "x\nroot:pwned").unwrap_err();
    if !machine.image().agent.is_c {
        set("alice", "").unwrap_err();
        set("alice", "x\0").unwrap_err();
        set("alice", "x:1").unwrap_err();
        set("root\0", &hash).unwrap_err();
    }
    assert_eq!(machine.shell.run("cat /etc/shadow"), before);
}

pub(crate) fn keys_are_the_users_and_the_agent_keeps_nothing_of_him(guest: &mut Guest) {
    let machine = &mut guest.machine;
    make_alice(machine);
    let groups = "cat /proc/$(cat /run/qga/pid)/task/*/status 2>/dev/null | grep ^Groups: | sort -u";
    let before = machine.shell.run(groups);
    let mut agent = machine.agent();
    let keys = ["ssh-ed25519 AAAA one", "ssh-rsa BBBB two"];
    agent.call("guest-ssh-add-authorized-keys", json!({ "username": "alice", "keys": keys })).unwrap();
    let listed = agent.call("guest-ssh-get-authorized-keys", json!({ "username": "alice" })).unwrap();
    assert_eq!(listed, json!({ "keys": [keys[1], keys[0]] }));
    let modes = machine.shell.run("stat -c '%n %u:%g %a' /home/alice/.ssh /home/alice/.ssh/*");
    assert_eq!(modes, "/home/alice/.ssh 1000:1001 700\n/home/alice/.ssh/authorized_keys 1000:1001 600");
    assert_eq!(machine.shell.run("cat /home/alice/.ssh/authorized_keys"), keys.join("\n"));
    let remove = json!({ "username": "alice", "keys": [keys[0]] });
    agent.call("guest-ssh-remove-authorized-keys", remove).unwrap();
    assert_eq!(machine.shell.run("cat /home/alice/.ssh/authorized_keys"), keys[1]);

    if !machine.image().agent.is_c {
        assert_eq!(machine.shell.run(groups), before);
        // The user looks elsewhere: nothing of root's is given away or changed.
        machine.shell.run(
            "cd /home/alice && mv .ssh real && mkdir /root/target && echo topsecret >/root/target/authorized_keys
            chmod 755 /root /root/target && ln -s /root/target .ssh && cd /",
        );
        agent.call("guest-ssh-get-authorized-keys", json!({ "username": "alice" })).unwrap_err();
        let add = json!({ "username": "alice", "keys": keys, "reset": true });
        agent.call("guest-ssh-add-authorized-keys", add).unwrap_err();
        assert_eq!(machine.shell.run("ls /root/target; cat /root/target/*"), "authorized_keys\ntopsecret");
        assert_eq!(machine.shell.run("stat -c '%u %a' /root/target/*"), "0 644");
        machine.shell.run("rm -r /home/alice/.ssh /root/target");
    }
    machine.shell.run("rm -rf /home/alice/.ssh /home/alice/real");
}

pub(crate) fn a_guest_without_anything_tells_what_the_kernel_knows(guest: &mut Guest) {
    let machine = &mut guest.machine;
    let name = "n".repeat(63);
    machine.shell.run(&format!("hostname {name}"));
    let mut agent = machine.agent();
    assert_eq!(agent.call("guest-get-host-name", json!({})).unwrap(), json!({ "host-name": name }));
    let mut uname = |what: &str| machine.shell.run(&format!("uname -{what}"));
    let kernel = json!({ "kernel-release": uname("r"), "kernel-version": uname("v"), "machine": uname("m") });
    assert_eq!(agent.call("guest-get-osinfo", json!({})).unwrap(), kernel);
    assert_eq!(agent.call("guest-get-timezone", json!({})).unwrap(), json!({ "zone": "UTC", "offset": 0 }));
    assert_eq!(agent.call("guest-get-users", json!({})).unwrap(), json!([]));
}

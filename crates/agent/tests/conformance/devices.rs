//! Disks, file systems, processors, memory, statistics and routes, as this machine has them.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use qga_testkit::{Host, skip};
use serde_json::{Value, json};

use crate::differences::{differs, today_or_7};
use crate::{agent, ask, failed, setup};

/// Asks a command without arguments for a list; `None` where the agent under test has no such command.
fn list(host: &mut Host, name: &str) -> Option<Vec<Value>> {
    match host.call(name, json!({})) {
        Ok(list) => Some(list.as_array().expect("a list").clone()),
        Err(error) if error.class == "CommandNotFound" => None,
        Err(error) => panic!("{name}: {error}"),
    }
}

/// The numbers of `PREFIX<N>` in a directory.
fn numbered(dir: &str, prefix: &str) -> BTreeSet<u64> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.strip_prefix(prefix)?.parse().ok()).collect()
}

/// Whether a value has the members of a disk's address that libvirt needs.
fn check_address(address: &Value) {
    for member in ["bus", "target", "unit"] {
        assert!(address[member].is_u64(), "{member} of {address}");
    }
    for member in ["domain", "bus", "slot", "function"] {
        assert!(address["pci-controller"][member].is_i64(), "{member} of {address}");
    }
}

#[test]
fn disks_are_those_of_sysfs_with_their_partitions() {
    let (_agent, mut host) = agent();
    let all = list(&mut host, "guest-get-disks").unwrap();
    let names: BTreeSet<&str> = all.iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!(names.len(), all.len(), "each once: {all:?}");
    for one in &all {
        let name = one["name"].as_str().unwrap().strip_prefix("/dev/").unwrap();
        let sysfs = Path::new("/sys/class/block").join(name.replace('/', "!"));
        assert_eq!(one["partition"], sysfs.join("partition").exists(), "{one}");
        if let Some(address) = one.get("address") {
            check_address(address);
            assert_eq!(address["dev"], one["name"]);
        }
        if one["partition"] == true {
            let disk = one["dependencies"][0].as_str().unwrap();
            assert!(names.contains(disk) && one["dependencies"].as_array().unwrap().len() == 1, "{one}");
            let at = |name: &str| all.iter().position(|one| one["name"] == name).unwrap();
            let is_behind = at(disk) < at(one["name"].as_str().unwrap());
            assert_eq!(is_behind, differs("disks-order", true, false), "{all:?}");
        }
    }
    for entry in fs::read_dir("/sys/block").unwrap().flatten() {
        let size = fs::read_to_string(entry.path().join("size")).unwrap_or_default();
        let name = format!("/dev/{}", entry.file_name().to_str().unwrap().replace('!', "/"));
        // Loop devices come and go while other tests run.
        if !size.is_empty() && !name.starts_with("/dev/loop") {
            assert_eq!(names.contains(name.as_str()), size.trim() != "0", "{name} in {names:?}");
        }
    }
}

/// Two file systems in images, one of them seen twice, and what `stat -f` says of them.
const MOUNTS: &str = r#"
set -e
mount -t tmpfs none "$STAGE"
cd "$STAGE"
for name in a b; do
    truncate -s 16M $name.img
    mke2fs -q -F -t ext4 -m 10 $name.img
    mkdir $name
    mount -o loop $name.img $name
done
mkdir bind covered
mount --bind a bind
mount -t tmpfs none covered
dd if=/dev/zero of=a/fill bs=1024 count=1000 2>/dev/null
sync
for name in a b; do stat -f -c '%b %f %a %S' $name >$name.stat; done
cp a.stat b.stat "$OUT"
exec "$@"
"#;

#[test]
fn file_systems_have_the_sizes_of_statvfs_and_come_last_mounted_first() {
    let test = "file systems";
    if !skip::is_root(test) || !skip::has(test, "mke2fs") || !skip::has(test, "unshare") {
        return;
    }
    if !Command::new("losetup").arg("-f").output().is_ok_and(|output| output.status.success()) {
        return skip::skipped(test, "needs a loop device");
    }
    let stage = tempfile::tempdir().unwrap();
    let setup = setup();
    let out = setup.dir().to_path_buf();
    let agent = setup
        .env("STAGE", stage.path())
        .env("OUT", &out)
        .inside(["unshare", "-m", "--propagation", "private", "sh", "-c", MOUNTS, "sh"])
        .start();
    let all = list(&mut agent.host(), "guest-get-fsinfo").unwrap();
    for one in &all {
        assert!(one["name"].is_string() && one["type"].is_string(), "{one}");
        one["disk"].as_array().unwrap().iter().for_each(check_address);
    }
    let below = |one: &&Value| one["mountpoint"].as_str().unwrap().starts_with(stage.path().to_str().unwrap());
    let mut ours: Vec<&Value> = all.iter().filter(below).collect();
    // Release 7.2 still counted mounts.
    let bound = ours.iter().position(|one| one["mountpoint"].as_str().unwrap().ends_with("/bind"));
    assert_eq!(bound, today_or_7(None, Some(0)));
    bound.map(|bound| ours.remove(bound));
    assert_eq!(ours.len(), 2, "the tmpfs does not count: {all:?}");
    for (one, name) in ours.iter().zip(["b", "a"]) {
        assert_eq!(one["mountpoint"], stage.path().join(name).to_str().unwrap());
        assert_eq!(one["type"], "ext4");
        assert_eq!(one["disk"], json!([]), "a loop device has no address");
        assert!(one["name"].as_str().unwrap().starts_with("loop"), "{one}");
        let text = fs::read_to_string(out.join(format!("{name}.stat"))).unwrap();
        let numbers: Vec<u64> = text.split_whitespace().map(|number| number.parse().unwrap()).collect();
        let [blocks, free, available, size] = numbers[..] else { panic!("{text}") };
        assert_eq!(one["used-bytes"], (blocks - free) * size);
        assert_eq!(one["total-bytes"], (blocks - free + available) * size);
        let privileged = today_or_7(Some(json!(blocks * size)), None);
        assert_eq!(one.get("total-bytes-privileged"), privileged.as_ref());
    }
}

#[test]
fn a_list_of_mount_points_that_are_none_freezes_nothing() {
    let agent = setup().allow("guest-fsfreeze-freeze-list").start();
    let mut host = agent.host();
    let mut freeze = |points: &str| {
        ask(&mut host, &format!("{{\"execute\":\"guest-fsfreeze-freeze-list\",\"arguments\":{{{points}}}}}"))
    };
    assert_eq!(freeze("\"mountpoints\":[]"), "{\"return\": 0}");
    assert_eq!(freeze("\"mountpoints\":[\"/nonexistent\",\"\"]"), "{\"return\": 0}");
    let type_of =
        |what: &str, expected: &str| failed(&format!("Invalid parameter type for '{what}', expected: {expected}"));
    assert_eq!(freeze("\"mountpoints\":\"/\""), type_of("mountpoints", "array"));
    assert_eq!(freeze("\"mountpoints\":[\"/nonexistent\",1]"), type_of("mountpoints[1]", "string"));
    assert_eq!(freeze("\"mountpoints\":null"), type_of("mountpoints", "array"));
    assert_eq!(freeze("\"mountpoints\":[],\"x\":1"), failed("Parameter 'x' is unexpected"));
    assert_eq!(ask(&mut host, "{\"execute\":\"guest-fsfreeze-status\"}"), "{\"return\": \"thawed\"}");
}

#[test]
fn processors_are_those_of_sysfs() {
    let (_agent, mut host) = agent();
    let there = numbered("/sys/devices/system/cpu", "cpu");
    if there.is_empty() {
        return skip::skipped("processors", "sysfs has none here");
    }
    let all = list(&mut host, "guest-get-vcpus").unwrap();
    let ids: Vec<u64> = all.iter().map(|cpu| cpu["logical-id"].as_u64().unwrap()).collect();
    assert_eq!(ids.iter().copied().collect::<BTreeSet<_>>(), there);
    assert_eq!(ids.len(), there.len());
    if crate::PROGRAM.is_ours() {
        assert!(ids.is_sorted(), "see vcpus-order: {ids:?}");
    }
    for cpu in &all {
        let file = format!("/sys/devices/system/cpu/cpu{}/online", cpu["logical-id"]);
        let text = fs::read_to_string(&file);
        assert_eq!(cpu["can-offline"], text.is_ok(), "{cpu}");
        assert_eq!(cpu["online"], text.map_or(true, |text| !text.starts_with('0')), "{cpu}");
    }
}

#[test]
fn processors_that_are_not_there_cannot_be_set() {
    let agent = setup().allow("guest-set-vcpus").start();
    let mut host = agent.host();
    let mut set = |vcpus: &str| {
        ask(&mut host, &format!("{{\"execute\":\"guest-set-vcpus\",\"arguments\":{{\"vcpus\":{vcpus}}}}}"))
    };
    assert_eq!(set("[]"), "{\"return\": 0}");
    let missing = |id: i64| {
        let text = today_or_7("Could not open '@/'", "open(\\\\\"@/\\\\\")");
        let text = text.replace('@', &format!("/sys/devices/system/cpu/cpu{id}"));
        failed(&format!("{text}: No such file or directory"))
    };
    assert_eq!(set("[{\"logical-id\":99999,\"online\":true}]"), missing(99999));
    assert_eq!(set("[{\"logical-id\":-1,\"online\":false,\"can-offline\":true}]"), missing(-1));
    assert_eq!(set("[{\"logical-id\":1}]"), failed("Parameter 'vcpus[0].online' is missing"));
    let wrong = |what: &str| failed(&format!("Invalid parameter type for 'vcpus[0]{what}"));
    assert_eq!(set("[3]"), wrong("', expected: object"));
    assert_eq!(set("[{\"logical-id\":\"1\",\"online\":true}]"), wrong(".logical-id', expected: integer"));
    assert_eq!(set("[{\"logical-id\":1,\"online\":1}]"), wrong(".online', expected: boolean"));
    let last = set("[{\"logical-id\":1,\"online\":true,\"can-offline\":1}]");
    assert_eq!(last, wrong(".can-offline', expected: boolean"));
    if numbered("/sys/devices/system/cpu", "cpu").contains(&0)
        && !Path::new("/sys/devices/system/cpu/cpu0/online").exists()
    {
        assert_eq!(set("[{\"logical-id\":0,\"online\":true}]"), "{\"return\": 1}");
        let some = "[{\"logical-id\":0,\"online\":true},{\"logical-id\":0,\"online\":false},{\"logical-id\":0,\"online\":true}]";
        assert_eq!(set(some), "{\"return\": 1}");
        let fixed = failed("logical processor #0 can't be offlined");
        assert_eq!(set("[{\"logical-id\":0,\"online\":false}]"), fixed);
    }
}

#[test]
fn memory_blocks_are_those_of_sysfs() {
    let (_agent, mut host) = agent();
    let base = "/sys/devices/system/memory";
    let there = numbered(base, "memory");
    if there.is_empty() {
        return skip::skipped("memory blocks", "the kernel has none");
    }
    let all = list(&mut host, "guest-get-memory-blocks").unwrap();
    let indexes: Vec<u64> = all.iter().map(|block| block["phys-index"].as_u64().unwrap()).collect();
    assert_eq!(indexes.iter().copied().collect::<BTreeSet<_>>(), there);
    if crate::PROGRAM.is_ours() {
        assert!(indexes.is_sorted(), "see memory-blocks: {indexes:?}");
    }
    for block in &all {
        let read = |name| fs::read_to_string(format!("{base}/memory{}/{name}", block["phys-index"])).unwrap();
        assert_eq!(block["online"], read("state").trim() == "online", "{block}");
        assert_eq!(block["can-offline"], read("removable").trim() != "0", "{block}");
    }
    let size = fs::read_to_string(format!("{base}/block_size_bytes")).unwrap();
    let info = host.call("guest-get-memory-block-info", json!({})).unwrap();
    assert_eq!(info, json!({ "size": u64::from_str_radix(size.trim(), 16).unwrap() }));
}

#[test]
fn every_memory_block_that_is_asked_for_gets_its_answer() {
    let agent = setup().allow("guest-set-memory-blocks").start();
    let mut host = agent.host();
    let mut set = |blocks: &str| {
        ask(&mut host, &format!("{{\"execute\":\"guest-set-memory-blocks\",\"arguments\":{{\"mem-blks\":{blocks}}}}}"))
    };
    assert_eq!(set("[]"), "{\"return\": []}");
    let far =
        "[{\"phys-index\":-1,\"online\":true},{\"phys-index\":9999999999,\"online\":false,\"can-offline\":false}]";
    let response =
        if Path::new("/sys/devices/system/memory").exists() { "not-found" } else { "operation-not-supported" };
    let answer = |index: u64| format!("{{\"response\": \"{response}\", \"error-code\": 2, \"phys-index\": {index}}}");
    assert_eq!(set(far), format!("{{\"return\": [{}, {}]}}", answer(u64::MAX), answer(9_999_999_999)));
    assert_eq!(set("[{\"online\":true}]"), failed("Parameter 'mem-blks[0].phys-index' is missing"));
    let wrong = set("[{\"phys-index\":1.5,\"online\":true}]");
    let seven = "Invalid parameter type for 'mem-blks[0].phys-index', expected: uint64";
    assert!([failed("Parameter 'mem-blks[0].phys-index' expects uint64"), failed(seven)].contains(&wrong), "{wrong}");
    let unexpected = set("[{\"phys-index\":1,\"online\":true,\"foo\":1}]");
    assert_eq!(unexpected, failed("Parameter 'mem-blks[0].foo' is unexpected"));
    if numbered("/sys/devices/system/memory", "memory").contains(&0) {
        // Block 0 is always in use, so this asks for what is so already.
        let zero = set("[{\"phys-index\":0,\"online\":true}]");
        assert_eq!(zero, "{\"return\": [{\"response\": \"success\", \"phys-index\": 0}]}");
    }
}

#[test]
fn statistics_of_disks_are_those_of_proc() {
    let (_agent, mut host) = agent();
    let columns = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<String>>();
    let before = fs::read_to_string("/proc/diskstats").unwrap();
    let all = list(&mut host, "guest-get-diskstats").unwrap();
    // Loop devices come and go while other tests run.
    let lines: Vec<Vec<String>> = before.lines().map(columns).filter(|line| !line[2].starts_with("loop")).collect();
    let all: Vec<&Value> = all.iter().filter(|one| !one["name"].as_str().unwrap().starts_with("loop")).collect();
    assert_eq!(all.len(), lines.len());
    for (one, line) in all.iter().zip(&lines) {
        assert_eq!(one["name"], line[2]);
        assert_eq!((one["major"].to_string(), one["minor"].to_string()), (line[0].clone(), line[1].clone()));
        let stats = one["stats"].as_object().unwrap();
        let expected = match line.len() {
            20.. => 17,
            18 | 19 => 15,
            14.. => 11,
            _ => continue,
        };
        assert_eq!(stats.len(), expected, "{one}");
        let earlier: u64 = line[3].parse().unwrap();
        assert!(stats["read-ios"].as_u64().unwrap() >= earlier, "{one}, {line:?} before");
        let earlier: u64 = line[9].parse().unwrap();
        assert!(stats["write-sectors"].as_u64().unwrap() >= earlier, "{one}, {line:?} before");
    }
}

#[test]
fn statistics_of_processors_are_those_of_proc_in_milliseconds() {
    let (_agent, mut host) = agent();
    let read = || -> Vec<Vec<u64>> {
        let text = fs::read_to_string("/proc/stat").unwrap();
        let lines = text.lines().filter_map(|line| line.strip_prefix("cpu").filter(|line| !line.starts_with(' ')));
        lines.map(|line| line.split_whitespace().map(|number| number.parse().unwrap()).collect()).collect()
    };
    let before = read();
    let all = list(&mut host, "guest-get-cpustats").unwrap();
    let after = read();
    assert_eq!(all.len(), before.len());
    for ((one, before), after) in all.iter().zip(before).zip(after) {
        assert_eq!((&one["type"], &one["cpu"]), (&json!("linux"), &json!(before[0])));
        for (column, name) in [(1, "user"), (3, "system"), (7, "softirq"), (8, "steal"), (10, "guestnice")] {
            // A hundred ticks a second, as on every kernel that is in use.
            let range = before[column] * 10..=after[column] * 10;
            assert!(range.contains(&one[name].as_u64().unwrap()), "{name} of {one}: {range:?}");
        }
        assert_eq!(one.as_object().unwrap().len(), 12);
    }
}

#[test]
fn the_load_is_what_proc_says() {
    let (_agent, mut host) = agent();
    let load = match host.call("guest-get-load", json!({})) {
        Err(error) if error.class == "CommandNotFound" => {
            return skip::skipped("load", "the agent under test is too old");
        }
        load => load.unwrap(),
    };
    let text = fs::read_to_string("/proc/loadavg").unwrap();
    let expected: Vec<f64> = text.split(' ').take(3).map(|number| number.parse().unwrap()).collect();
    assert_eq!(load.as_object().unwrap().len(), 3);
    for (name, expected) in ["load1m", "load5m", "load15m"].into_iter().zip(expected) {
        // They change every five seconds, the first by several tenths on a machine that is busy with tests.
        assert!((load[name].as_f64().unwrap() - expected).abs() < 2.0, "{name}: {load}, {text}");
    }
}

const ROUTES: &str = "
set -e
ip link add veth0 type veth peer name veth1
ip addr add 192.0.2.2/24 dev veth0
ip link set lo up
ip link set veth1 up
ip link set veth0 up
ip route add default via 192.0.2.1 dev veth0 metric 100
ip route add 198.51.100.0/25 via 192.0.2.9 dev veth0 metric 4294967295
ip -6 addr add 2001:db8::5/64 dev veth0 nodad || true
ip -6 route add default via 2001:db8::1 dev veth0 metric 77 || true
exec \"$@\"
";

#[test]
fn routes_are_those_of_the_agents_own_network() {
    let test = "routes";
    if !skip::is_root(test) || !skip::has(test, "ip") || !skip::has(test, "unshare") {
        return;
    }
    let agent = setup().inside(["unshare", "-n", "sh", "-c", ROUTES, "sh"]).start();
    let Some(all) = list(&mut agent.host(), "guest-network-get-route") else {
        return skip::skipped(test, "the agent under test is too old");
    };
    let v4: Vec<&Value> = all.iter().filter(|route| route["version"] == 4).collect();
    let of = |destination: &str, mask: &str| {
        let found: Vec<_> =
            v4.iter().filter(|route| route["destination"] == destination && route["mask"] == mask).collect();
        assert_eq!(found.len(), 1, "{destination} {mask} in {all:?}");
        (*found[0]).clone()
    };
    assert_eq!(v4.len(), 3, "{all:?}");
    let default = of("0.0.0.0", "0.0.0.0");
    let expected = json!({ "iface": "veth0", "destination": "0.0.0.0", "mask": "0.0.0.0", "gateway": "192.0.2.1",
        "metric": 100, "flags": 3, "version": 4, "refcnt": 0, "use": 0, "mtu": 0, "window": 0, "irtt": 0 });
    assert_eq!(default, expected);
    assert_eq!(of("192.0.2.0", "255.255.255.0")["gateway"], "0.0.0.0");
    let metric = differs("route-unsigned", json!(4_294_967_295_u32), json!(-1));
    assert_eq!(of("198.51.100.0", "255.255.255.128")["metric"], metric);
    if !Path::new("/proc/sys/net/ipv6").exists() {
        return skip::skipped(test, "this kernel has no IPv6");
    }
    let v6: Vec<&Value> = all.iter().filter(|route| route["version"] == 6).collect();
    let default = v6.iter().find(|route| route["destination"] == "::" && route["nexthop"] == "2001:db8::1");
    let default = default.unwrap_or_else(|| panic!("{all:?}"));
    assert_eq!((&default["desprefixlen"], &default["metric"]), (&json!("0"), &json!(77)));
    let signed = |route: &&Value| route["flags"].as_u64() > Some(u32::MAX.into()) || route["metric"].as_i64() < Some(0);
    assert_eq!(v6.into_iter().any(|route| signed(&route)), differs("route-unsigned", false, true), "{all:?}");
}

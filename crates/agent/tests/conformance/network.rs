//! `guest-network-get-interfaces` and `guest-network-get-route` in a network namespace of their own.

use std::process::Command;

use qga_testkit::skip;
use serde_json::{Value, json};

use crate::differences::differs;
use crate::{agent, setup};

/// What an administrator would type; `ip` does not say why when a module is missing, so nothing depends on one.
const NETWORK: &str = "
set -e
ip link set lo up
ip link add veth0 address 52:54:00:12:34:56 type veth peer name veth1 address 52:54:00:12:34:57
ip addr add 192.0.2.2/24 dev veth0
ip addr add 192.0.2.3/24 dev veth0
ip addr add 198.51.100.1/32 dev veth0 label veth0:1
ip addr add 10.0.0.1 peer 10.0.0.2 dev veth1
ip link set veth1 up
ip link set veth0 up
ip link add br0 address 02:00:00:00:00:01 type bridge || true
ip tuntap add dev tun0 mode tun && ip addr add 172.16.0.1/30 dev tun0 || true
ip addr add 2001:db8::5/64 dev veth0 nodad || true
exec \"$@\"
";

fn in_namespace(test: &str, script: &str) -> Option<Vec<Value>> {
    if !skip::is_root(test) || !skip::has(test, "ip") || !skip::has(test, "unshare") {
        return None;
    }
    let agent = setup().inside(["unshare", "-n", "sh", "-c", script, "sh"]).start();
    let list = agent.host().call("guest-network-get-interfaces", json!({})).unwrap();
    Some(list.as_array().unwrap().clone())
}

fn named<'a>(list: &'a [Value], name: &str) -> Option<&'a Value> {
    list.iter().find(|interface| interface["name"] == name)
}

fn addresses(interface: &Value) -> Vec<String> {
    let list = interface["ip-addresses"].as_array().cloned().unwrap_or_default();
    let text = |address: &Value| format!("{}/{}", address["ip-address"].as_str().unwrap(), address["prefix"]);
    list.iter().map(text).collect()
}

#[test]
fn interfaces_come_in_the_kernels_order_with_their_addresses() {
    let Some(list) = in_namespace("interfaces", NETWORK) else { return };
    let names: Vec<&str> = list.iter().map(|interface| interface["name"].as_str().unwrap()).collect();
    // The kernel numbers the other end of a veth pair first.
    assert_eq!(names[..3], ["lo", "veth1", "veth0"], "{names:?}");
    assert_eq!(addresses(named(&list, "lo").unwrap())[0], "127.0.0.1/8");
    // Our side of a point-to-point link.
    assert_eq!(addresses(named(&list, "veth1").unwrap())[0], "10.0.0.1/32");
    let veth0 = addresses(named(&list, "veth0").unwrap());
    let ours = &["192.0.2.2/24", "198.51.100.1/32", "192.0.2.3/24"][..];
    let c = &["192.0.2.2/24", "192.0.2.3/24"][..];
    let expected = differs("network-labels", ours, c);
    assert_eq!(veth0[..expected.len()], *expected, "{veth0:?}");
    assert_eq!(named(&list, "veth0:1").is_some(), differs("network-labels", false, true));
    if std::path::Path::new("/proc/sys/net/ipv6").exists() {
        let six: Vec<&String> = veth0.iter().filter(|address| address.contains(':')).collect();
        assert!(six.iter().any(|address| *address == "2001:db8::5/64"), "{veth0:?}");
        assert_eq!(six.len() + expected.len(), veth0.len(), "IPv4 comes first: {veth0:?}");
        assert!(six.iter().all(|address| !address.contains('%')), "{veth0:?}");
    }
}

/// A container's `/sys` is not its own, is half hidden, or is not there: everything comes over netlink and `/proc/net`.
#[test]
fn a_container_without_sys_has_all_its_interfaces_and_routes() {
    let test = "a container without /sys";
    if !skip::is_root(test) || !skip::has(test, "ip") || !skip::has(test, "unshare") {
        return;
    }
    let ask = |hide: &str| {
        let script = format!("{hide}\n{NETWORK}");
        let inside = ["unshare", "-n", "-m", "--propagation", "private", "sh", "-c", &script, "sh"];
        let agent = setup().inside(inside).start();
        let root = std::path::PathBuf::from(format!("/proc/{}/root/sys/class/net", agent.pid()));
        let interfaces = agent.host().call("guest-network-get-interfaces", json!({})).unwrap();
        let routes = agent.host().call("guest-network-get-route", json!({})).ok();
        // Old C agents do not have it.
        assert!(routes.is_some() || !crate::PROGRAM.is_ours());
        (root.exists(), interfaces.as_array().unwrap().clone(), routes)
    };
    let (_, with, routes_with) = ask("");
    let (is_there, without, routes_without) = ask("mount -t tmpfs -o mode=555 none /sys");
    assert!(!is_there, "the test hides nothing");
    let steady = |list: &[Value]| -> Vec<Value> {
        let mut list = list.to_vec();
        for interface in &mut list {
            // Counters run, and an address of IPv6's own making comes when it likes.
            interface["statistics"] = interface["statistics"].is_object().into();
            if let Some(addresses) = interface.get_mut("ip-addresses").and_then(Value::as_array_mut) {
                addresses.retain(|address| !address["ip-address"].as_str().unwrap().starts_with("fe80:"));
            }
        }
        list
    };
    assert!(without.len() >= 3, "{without:?}");
    assert_eq!(steady(&without), steady(&with));
    let lines = |routes: &Option<Value>| -> Vec<String> {
        let list = routes.iter().flat_map(|routes| routes.as_array().unwrap());
        list.filter(|route| route["version"] == 4).map(Value::to_string).collect()
    };
    assert_eq!(lines(&routes_without), lines(&routes_with));
    assert!(routes_without.is_none() || lines(&routes_without).len() >= 2, "{routes_without:?}");
}

#[test]
fn hardware_addresses_are_lower_case_and_zeros_where_there_is_none() {
    let Some(list) = in_namespace("hardware addresses", NETWORK) else { return };
    let of = |name| named(&list, name).map(|interface| interface["hardware-address"].clone());
    assert_eq!(of("veth0"), Some(json!("52:54:00:12:34:56")));
    assert_eq!(of("lo"), Some(json!("00:00:00:00:00:00")));
    if let Some(tun) = of("tun0") {
        assert_eq!(tun, "00:00:00:00:00:00");
    }
}

#[test]
fn an_interface_without_addresses_has_no_list_but_counters() {
    let Some(list) = in_namespace("counters", NETWORK) else { return };
    let veth0 = &named(&list, "veth0").unwrap()["statistics"];
    let names = ["tx-packets", "tx-errs", "rx-bytes", "rx-dropped", "rx-packets", "rx-errs", "tx-bytes", "tx-dropped"];
    assert!(names.iter().all(|name| veth0[name].is_u64()), "{veth0}");
    assert_eq!(veth0.as_object().unwrap().len(), names.len());
    let Some(bridge) = named(&list, "br0") else { return };
    assert_eq!(bridge.get("ip-addresses"), None);
    assert_eq!(bridge.get("statistics").is_some(), differs("network-counters", true, false));
}

#[test]
fn an_interface_that_is_down_is_listed_and_ipv6_may_be_missing() {
    let script = "sysctl -qw net.ipv6.conf.all.disable_ipv6=1 2>/dev/null; exec \"$@\"";
    let Some(list) = in_namespace("down", script) else { return };
    let lo = named(&list, "lo").unwrap();
    assert_eq!(addresses(lo), Vec::<String>::new());
    assert_eq!(lo["hardware-address"], "00:00:00:00:00:00");
}

#[test]
fn members_come_in_the_order_of_the_c_agent() {
    let (_agent, mut host) = agent();
    let line = crate::ask(&mut host, "{\"execute\":\"guest-network-get-interfaces\"}");
    let Some(lo) = line.split("{\"name\": ").find(|part| part.starts_with("\"lo\", \"ip-addresses\"")) else {
        return skip::skipped("order of members", "the loopback interface has no address here");
    };
    let (addresses, rest) = lo.split_once("], \"statistics\": {\"tx-packets\": ").unwrap();
    let first =
        "\"lo\", \"ip-addresses\": [{\"ip-address-type\": \"ipv4\", \"ip-address\": \"127.0.0.1\", \"prefix\": 8}";
    assert!(addresses.starts_with(first), "{addresses}");
    let keys: Vec<&str> = rest.split('"').skip(1).step_by(2).take(8).collect();
    let order =
        ["tx-errs", "rx-bytes", "rx-dropped", "rx-packets", "rx-errs", "tx-bytes", "tx-dropped", "hardware-address"];
    assert_eq!(keys, order);
}

/// Routes of all kinds. What a kernel or an `ip` does not know is left out.
const ROUTES: &str = "
ip link add veth0 type veth peer name veth1
ip addr add 192.0.2.2/24 dev veth0
ip link set lo up
ip link set veth1 up
ip link set veth0 up
ip route add default via 192.0.2.1 dev veth0 metric 100
ip route add default via 192.0.2.3 dev veth0 metric 50
ip route add 198.51.100.128/25 dev veth1 mtu 1400 advmss 1000 window 5000 rtt 100ms
ip route add 198.51.100.7 via 192.0.2.9 advmss 1
ip route add 203.0.113.0/31 nexthop via 192.0.2.4 dev veth0 nexthop dev veth1
ip route add unreachable 10.1.0.0/16
ip route add prohibit 10.2.0.0/16 metric 7
ip route add blackhole 10.3.0.1
ip route add throw 10.4.0.0/16
ip route add local 10.5.0.0/16 dev lo table main
ip route add broadcast 10.6.0.255 dev veth0 table main
ip route add 10.7.0.0/16 dev veth1 table 100
ip route add 10.8.0.0/16 via inet6 fe80::1 dev veth0
ip route add 10.9.0.0/16 tos 0x10 dev veth0
ip route add 10.9.0.0/16 dev veth1
";

/// What `/proc/net/route` of that process says, as the protocol has it.
fn file_of(pid: u32) -> Vec<Value> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/net/route")).unwrap();
    let address = |word: &str| {
        let number = u32::from_str_radix(word, 16).unwrap();
        std::net::Ipv4Addr::from(number.to_ne_bytes()).to_string()
    };
    let number = |word: &str| word.parse::<i64>().unwrap();
    let route = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let flags = i64::from_str_radix(words[3], 16).unwrap();
        json!({ "iface": words[0], "destination": address(words[1]), "gateway": address(words[2]), "flags": flags,
            "refcnt": number(words[4]), "use": number(words[5]), "metric": number(words[6]), "mask": address(words[7]),
            "mtu": number(words[8]), "window": number(words[9]), "irtt": number(words[10]), "version": 4 })
    };
    text.lines().skip(1).map(route).collect()
}

#[test]
fn routes_of_ipv4_are_as_the_kernels_file_has_them() {
    let test = "routes as in the file";
    if !skip::is_root(test) || !skip::has(test, "ip") || !skip::has(test, "unshare") {
        return;
    }
    // Of a next hop that is an object, netlink does not say all that the file says.
    let object = "ip nexthop add id 7 blackhole; ip route add 10.10.0.0/16 nhid 7";
    for (more, least) in [("ip link set lo up", 0), (ROUTES, 8), (&format!("{ROUTES}{object}"), 8)] {
        let script = format!("{more}\nexec \"$@\"");
        let agent = setup().inside(["unshare", "-n", "sh", "-c", &script, "sh"]).start();
        let Ok(all) = agent.host().call("guest-network-get-route", json!({})) else {
            return skip::skipped(test, "the agent under test is too old");
        };
        let told: Vec<_> = all.as_array().unwrap().iter().filter(|route| route["version"] == 4).cloned().collect();
        assert_eq!(told, file_of(agent.pid()), "{more}");
        assert!(told.len() >= least, "{told:?}");
    }
}

/// Interfaces whose packets are too short for IPv6 are known to the kernel's other parts only.
#[test]
fn an_interface_that_ipv6_does_not_know_is_listed_with_all_the_others() {
    let script = "
set -e
ip link add veth0 address 52:54:00:12:34:56 type veth peer name veth1 mtu 900
ip addr add 192.0.2.2/24 dev veth0
ip link set veth0 mtu 1000
exec \"$@\"
";
    let Some(list) = in_namespace("short packets", script) else { return };
    let names: Vec<&str> = list.iter().map(|interface| interface["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["lo", "veth1", "veth0"]);
    let veth0 = &list[2];
    assert_eq!(
        (addresses(veth0), &veth0["hardware-address"]),
        (vec!["192.0.2.2/24".into()], &json!("52:54:00:12:34:56"))
    );
    assert!(veth0["statistics"].is_object());
    assert_eq!(list[0]["statistics"].is_object(), differs("network-counters", true, false));
}

/// A host of containers. What it has thousands of is remembered between two requests.
#[test]
fn what_changes_among_hundreds_of_interfaces_is_seen_by_the_next_request() {
    let test = "hundreds of interfaces";
    if !skip::is_root(test) || !["ip", "unshare", "nsenter", "bash"].iter().all(|program| skip::has(test, program)) {
        return;
    }
    let script = "
set -e
ip link set lo up
seq 1 150 | awk '{ print \"link add a\" $1 \" type veth peer name b\" $1 }' | ip -batch -
exec \"$@\"";
    let agent = setup().inside(["unshare", "-n", "sh", "-c", script, "sh"]).start();
    let mut host = agent.host();
    let mut ask = || host.call("guest-network-get-interfaces", json!({})).unwrap().as_array().unwrap().clone();
    let change = |script: &str| {
        let pid = agent.pid().to_string();
        let mut command = Command::new("nsenter");
        let status = command.args(["--target", &pid, "--net", "bash", "-ec", script]).status();
        assert!(status.unwrap().success(), "{script}");
    };
    let hardware = |list: &[Value], name| named(list, name).unwrap()["hardware-address"].clone();
    assert_eq!(ask().len(), 301);
    let before = ask();
    assert_eq!(before.len(), 301);

    change("ip addr add 192.0.2.9/24 dev a7");
    let list = ask();
    assert_eq!(addresses(named(&list, "a7").unwrap()), ["192.0.2.9/24"]);
    change("ip addr del 192.0.2.9/24 dev a7; ip addr add 192.0.2.10/25 dev a8");
    let list = ask();
    assert_eq!(named(&list, "a7").unwrap().get("ip-addresses"), None);
    assert_eq!(addresses(named(&list, "a8").unwrap()), ["192.0.2.10/25"]);
    if std::path::Path::new("/proc/sys/net/ipv6").exists() {
        change("ip addr add 2001:db8::9/64 dev a7 nodad");
        assert_eq!(addresses(named(&ask(), "a7").unwrap()), ["2001:db8::9/64"]);
    }

    change("ip link set a9 name renamed");
    let list = ask();
    assert!(named(&list, "a9").is_none());
    assert_eq!(hardware(&list, "renamed"), hardware(&before, "a9"));
    change("ip link set renamed address 52:54:00:00:00:09");
    assert_eq!(hardware(&ask(), "renamed"), "52:54:00:00:00:09");

    change("ip link del a10; ip link add new0 type veth peer name new1");
    let list = ask();
    assert_eq!(list.len(), 301);
    assert!(["a10", "b10"].iter().all(|name| named(&list, name).is_none()));
    assert!(["new0", "new1"].iter().all(|name| named(&list, name).is_some()));

    // More at once than the kernel keeps messages of.
    change(
        "for n in {1..150}; do echo link set b$n mtu 1400; done | grep -v 'b10 ' | ip -batch -; ip link set b150 name last",
    );
    let list = ask();
    assert!(named(&list, "b150").is_none());
    assert_eq!(hardware(&list, "last"), hardware(&before, "b150"));

    // What is counted is asked for each time.
    let sent = |list: &[Value]| named(list, "lo").unwrap()["statistics"]["tx-packets"].as_u64().unwrap();
    let (first, second) = (sent(&ask()), sent(&ask()));
    assert_eq!(first, second);
    change("echo > /dev/udp/127.0.0.1/9");
    assert!(sent(&ask()) > second);
}

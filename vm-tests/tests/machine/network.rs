//! The network card is the one on QEMU's command line.

use serde_json::json;
use vm_tests::machine::MAC;

use crate::Guest;

pub(crate) fn the_interfaces_are_those_of_qemus_command_line(guest: &mut Guest) {
    let name = guest.machine.shell.run(&format!("cd /sys/class/net; grep -l {MAC} */address; cd /"));
    let name = name.split('/').next().unwrap();
    let interfaces = guest.machine.agent().call("guest-network-get-interfaces", json!({})).unwrap();
    let of = |name: &str| {
        let mut all = interfaces.as_array().unwrap().iter().filter(|interface| interface["name"] == name);
        let interface = all.next().unwrap_or_else(|| panic!("no {name} in {interfaces}"));
        assert!(all.next().is_none(), "{name} twice in {interfaces}");
        interface
    };
    let addresses = |name: &str| of(name)["ip-addresses"].as_array().unwrap().clone();
    let address = |ip: &str, prefix: u8| json!({ "ip-address-type": "ipv4", "ip-address": ip, "prefix": prefix });

    assert_eq!(of(name)["hardware-address"], MAC);
    assert!(addresses(name).contains(&address("10.0.2.15", 24)), "{interfaces}");
    assert_eq!(of("lo")["hardware-address"], "00:00:00:00:00:00");
    assert!(addresses("lo").contains(&address("127.0.0.1", 8)), "{interfaces}");

    let received: u64 = guest.machine.shell.number(&format!("cat /sys/class/net/{name}/statistics/rx_packets"));
    let seen = of(name)["statistics"]["rx-packets"].as_u64().unwrap();
    assert!(seen <= received, "{seen} packets seen, {received} later");
}

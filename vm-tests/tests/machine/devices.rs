//! Processors and routes, compared with what the kernel did and has.

use serde_json::json;

use crate::Guest;

pub(crate) fn processors_go_offline_and_come_back(guest: &mut Guest) {
    let machine = &mut guest.machine;
    let mut agent = machine.agent();
    let cpus = |first: bool, second: bool| {
        json!([{ "logical-id": 0, "online": first, "can-offline": false },
               { "logical-id": 1, "online": second, "can-offline": true }])
    };
    assert_eq!(agent.call("guest-get-vcpus", json!({})), Ok(cpus(true, true)));
    let set = |online: bool| json!({ "vcpus": [{ "logical-id": 1, "online": online }] });
    assert_eq!(agent.call("guest-set-vcpus", set(false)), Ok(json!(1)));
    assert_eq!(machine.shell.run("cat /sys/devices/system/cpu/online"), "0");
    assert_eq!(agent.call("guest-get-vcpus", json!({})), Ok(cpus(true, false)));
    let stats = agent.call("guest-get-cpustats", json!({})).unwrap();
    assert_eq!(stats.as_array().unwrap().len(), 1, "{stats}");
    assert_eq!(agent.call("guest-set-vcpus", set(true)), Ok(json!(1)));
    assert_eq!(machine.shell.run("cat /sys/devices/system/cpu/online"), "0-1");
    assert_eq!(agent.call("guest-get-vcpus", json!({})), Ok(cpus(true, true)));

    let first = json!({ "vcpus": [{ "logical-id": 0, "online": false }] });
    let refused = agent.call("guest-set-vcpus", first).unwrap_err();
    assert_eq!(refused.desc, "logical processor #0 can't be offlined");
}

pub(crate) fn the_default_route_is_the_user_mode_networks(guest: &mut Guest) {
    let machine = &mut guest.machine;
    let mut agent = machine.agent();
    machine.shell.run("ip route add default via 10.0.2.2 dev eth0 metric 5");
    let routes = agent.call("guest-network-get-route", json!({})).unwrap();
    let routes = routes.as_array().unwrap();
    let of = |destination: &str| {
        let found = routes.iter().find(|route| route["destination"] == destination && route["version"] == 4);
        found.unwrap_or_else(|| panic!("no {destination} in {routes:#?}"))
    };
    let default = of("0.0.0.0");
    assert_eq!((&default["gateway"], &default["mask"]), (&json!("10.0.2.2"), &json!("0.0.0.0")));
    // RTF_UP and RTF_GATEWAY.
    assert_eq!((&default["iface"], &default["metric"], &default["flags"]), (&json!("eth0"), &json!(5), &json!(3)));
    assert_eq!((&of("10.0.2.0")["mask"], &of("10.0.2.0")["gateway"]), (&json!("255.255.255.0"), &json!("0.0.0.0")));
    let lines = machine.shell.number("wc -l </proc/net/route");
    let v4 = routes.iter().filter(|route| route["version"] == 4).count() as u64;
    assert_eq!(v4, lines - 1);
    machine.shell.run("ip route del default");
}

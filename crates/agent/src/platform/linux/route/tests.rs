use std::fs;

use serde_json::{Value, json};

use super::*;

const HEAD: &str = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n";

/// An address as this machine's kernel prints it.
fn word(a: u8, b: u8, c: u8, d: u8) -> String {
    format!("{:08X}", u32::from_ne_bytes([a, b, c, d]))
}

fn routes(v4: Option<&str>, v6: Option<&str>) -> Vec<Value> {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("proc/net")).unwrap();
    for (name, text) in [("route", v4), ("ipv6_route", v6)] {
        if let Some(text) = text {
            fs::write(dir.path().join("proc/net").join(name), text).unwrap();
        }
    }
    let mut routes = Vec::new();
    each(&Root::new(dir.path()), |route| routes.push(serde_json::to_value(route).unwrap())).unwrap();
    routes
}

#[test]
fn a_route_of_ipv4_has_all_its_columns() {
    let none = word(0, 0, 0, 0);
    let gateway = word(192, 168, 2, 1);
    let text = format!("{HEAD}eth0\t{none}\t{gateway}\t0003\t1\t2\t100\t{none}\t1400\t5\t7      \n");
    let expected = json!({ "iface": "eth0", "destination": "0.0.0.0", "gateway": "192.168.2.1", "mask": "0.0.0.0",
        "flags": 3, "metric": 100, "refcnt": 1, "use": 2, "mtu": 1400, "window": 5, "irtt": 7, "version": 4 });
    assert_eq!(routes(Some(&text), Some("")), [expected]);
}

#[test]
fn a_route_of_ipv6_has_all_its_columns() {
    let text = "20010db8000000000000000000000000 20 00000000000000000000000000000000 00 \
                fe800000000000000000000000000001 00000400 00000001 00000002 00000003     eth0\n";
    let expected = json!({ "iface": "eth0", "destination": "2001:db8::", "desprefixlen": "32", "source": "::",
        "srcprefixlen": "0", "nexthop": "fe80::1", "metric": 1024, "refcnt": 1, "use": 2, "flags": 3, "version": 6 });
    assert_eq!(routes(Some(HEAD), Some(text)), [expected]);
}

#[test]
fn flags_and_metrics_have_no_sign() {
    let zero = word(0, 0, 0, 0);
    let v4 = format!("{HEAD}eth0\t{zero}\t{zero}\t80000001\t0\t0\t-1\t{zero}\t0\t-2\t0\n");
    let none = "0".repeat(32);
    let v6 = format!("00000000000000000000ffffc0a80101 80 {none} 00 {none} ffffffff 00000001 00000000 80200001 lo\n");
    let routes = routes(Some(&v4), Some(&v6));
    assert_eq!(routes[0]["flags"], 2_147_483_649_u32);
    assert_eq!((&routes[0]["metric"], &routes[0]["window"]), (&json!(u32::MAX), &json!(u32::MAX - 1)));
    assert_eq!((&routes[1]["flags"], &routes[1]["metric"]), (&json!(2_149_580_801_u32), &json!(u32::MAX)));
    assert_eq!(routes[1]["destination"], "::ffff:192.168.1.1");
    assert_eq!(routes[1]["desprefixlen"], "128");
}

#[test]
fn a_protocol_that_the_kernel_does_not_have_has_no_routes() {
    let zero = word(0, 0, 0, 0);
    let v4 = format!("{HEAD}eth0\t{zero}\t{zero}\t1\t0\t0\t0\t{zero}\t0\t0\t0\n");
    assert_eq!(routes(Some(&v4), None).len(), 1);
    let none = "0".repeat(32);
    let v6 = format!("{none} 00 {none} 00 {none} ffffffff 00000001 00000000 00200200       lo\n");
    assert_eq!(routes(None, Some(&v6)).len(), 1);
    assert_eq!(routes(None, None), [] as [Value; 0]);
}

#[test]
fn lines_that_do_not_fit_are_left_out() {
    let zero = word(0, 0, 0, 0);
    let v4 = format!(
        "{HEAD}eth0\t{zero}\t{zero}\t1\t0\t0\t0\t{zero}\t0\t0\neth1\tx\t{zero}\t1\t0\t0\t0\t{zero}\t0\t0\t0\n\n\
         eth2\t{zero}\t{zero}\t1\t0\t0\t0\t{zero}\t0\t0\t0\n"
    );
    let none = "0".repeat(32);
    let v6 = format!("{none} 00 {none} 00 0 1 1 0 1 lo\n{none} 00 {none} 00 {none} 1 1 0 1\n");
    let names: Vec<Value> = routes(Some(&v4), Some(&v6)).iter().map(|route| route["iface"].clone()).collect();
    assert_eq!(names, ["eth2"]);
}

#[test]
fn a_file_that_cannot_be_read_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("proc/net/ipv6_route")).unwrap();
    let error = each(&Root::new(dir.path()), |_| ()).unwrap_err();
    assert_eq!(error.desc, "open(\"/proc/net/ipv6_route\"): Is a directory");
}

#[test]
fn a_route_that_differs_from_the_one_before_in_one_thing_is_told_with_it() {
    let first = Route {
        is_told: true,
        link: 2,
        destination: Ipv4Addr::new(10, 0, 0, 0),
        prefix: 8,
        gateway: Ipv4Addr::new(192, 0, 2, 1),
        flags: 3,
        metric: 100,
        mtu: 0,
        window: 0,
        irtt: 0,
    };
    let changes: [fn(&mut Route); 5] = [
        |_| {},
        |route| route.link = 3,
        |route| route.gateway = Ipv4Addr::new(192, 0, 2, 7),
        |route| route.prefix = 0,
        |route| route.destination = Ipv4Addr::new(10, 1, 0, 0),
    ];
    let mut routes = vec![first];
    for change in changes {
        let mut next = routes[routes.len() - 1].clone();
        change(&mut next);
        routes.push(next);
    }
    let names = HashMap::from([(2, "eth0".to_owned()), (3, "eth1".to_owned())]);
    let mut seen = Vec::new();
    told(&routes, &names, &mut |route| {
        let [gateway, mask] = [&route.gateway, &route.mask].map(|text| text.clone().unwrap());
        seen.push([route.iface.clone(), route.destination.clone(), gateway, mask].join(" "));
    });
    assert_eq!(
        seen,
        [
            "eth0 10.0.0.0 192.0.2.1 255.0.0.0",
            "eth0 10.0.0.0 192.0.2.1 255.0.0.0",
            "eth1 10.0.0.0 192.0.2.1 255.0.0.0",
            "eth1 10.0.0.0 192.0.2.7 255.0.0.0",
            "eth1 10.0.0.0 192.0.2.7 0.0.0.0",
            "eth1 10.1.0.0 192.0.2.7 0.0.0.0",
        ]
    );
}

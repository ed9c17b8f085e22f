//! Disks, processors, memory and routes, compared with QEMU's command line and with what the kernel did.

use std::rc::Rc;
use std::time::Duration;

use qga_testkit::{Host, wait};
use serde_json::{Value, json};
use vm_tests::hardware::{PLACES, Place};
use vm_tests::{Machine, Spec};

use crate::{Guest, IMAGE};

const MIB: u64 = 1 << 20;

/// The machine with a disk on every bus; booted by the first case that needs it.
fn hardware(guest: &mut Guest) -> &mut Machine {
    if !guest.machine.spec().hardware {
        let spec = Spec { disks: true, hardware: true, ..Spec::default() };
        guest.machine = Machine::boot(&IMAGE.with(Rc::clone), spec);
    }
    &mut guest.machine
}

/// PCI bus and slot, kind, and bus, target and unit.
type Where<'a> = (u64, u64, &'a str, (u64, u64, u64));

/// What an address says.
fn place(address: &Value) -> Where<'_> {
    let number = |value: &Value| value.as_u64().unwrap_or_else(|| panic!("{address}"));
    let pci = &address["pci-controller"];
    assert_eq!(pci["domain"], 0, "{address}");
    let numbers = (number(&address["bus"]), number(&address["target"]), number(&address["unit"]));
    (number(&pci["bus"]), number(&pci["slot"]), address["bus-type"].as_str().unwrap(), numbers)
}

/// The places that [`Place`] stands for.
fn expected(place: &Place) -> Vec<Where<'_>> {
    place.controllers.iter().map(|(bus, slot)| (*bus, *slot, place.bus_type, place.numbers)).collect()
}

pub(crate) fn the_disks_on_each_bus_are_those_of_qemus_command_line(guest: &mut Guest) {
    let machine = hardware(guest);
    machine.shell.run("modprobe ata_piix");
    wait::until("the disks at the PIIX", Duration::from_secs(60), || {
        machine.shell.succeeds("[ -b /dev/sdb ] && [ -b /dev/sdc ]").then_some(())
    });
    let mut agent = machine.agent();
    let disks = agent.call("guest-get-disks", json!({})).unwrap();
    let disks = disks.as_array().unwrap();
    let of = |serial: &str| {
        let has = |disk: &&Value| disk["address"]["serial"].as_str().is_some_and(|text| text.contains(serial));
        let found: Vec<&Value> = disks.iter().filter(has).collect();
        assert_eq!(found.len(), 1, "{serial} in {disks:#?}");
        found[0]
    };
    let fixed = [("ext4", (0, 7, "virtio", (0, 0, 0))), ("swap", (0, 8, "virtio", (0, 0, 0)))];
    for (serial, expected) in fixed {
        assert_eq!(place(&of(serial)["address"]), expected);
    }
    let scsi = disks.iter().find(|disk| disk["name"] == "/dev/sda").unwrap();
    assert_eq!(place(&scsi["address"]), (0, 9, "scsi", (0, 1, 2)));
    assert_eq!(scsi["address"]["serial"], "0QEMU_QEMU_HARDDISK_xfs");
    for place_of in PLACES {
        let disk = of(place_of.serial);
        assert_eq!(place(&disk["address"]), expected(place_of)[0], "{disk}");
        assert_eq!(disk.get("smart").is_some(), place_of.bus_type == "nvme", "{disk}");
        let node = disk["name"].as_str().unwrap();
        // 32 MiB, so that it is not another one's address.
        let sectors = machine.shell.number(&format!("cat /sys/class/block/{}/size", node.trim_start_matches("/dev/")));
        assert_eq!(sectors * 512, 32 * MIB, "{disk}");
    }
    let smart = &of("nvme-alone")["smart"];
    assert_eq!(smart["type"], "nvme");
    // QEMU's disk is at 50 degrees Celsius, always.
    assert_eq!((&smart["temperature"], &smart["critical-warning"]), (&json!(323), &json!(0)), "{smart}");

    // A file system on each, made with a partition in one case.
    for (n, place_of) in PLACES.iter().enumerate() {
        let node = of(place_of.serial)["name"].as_str().unwrap().to_owned();
        machine.shell.run_within(
            &format!(
                "/usr/sbin/mke2fs -q -t ext4 -E lazy_itable_init=0 {node}
                 mkdir -p /mnt/{n}; mount -t ext4 {node} /mnt/{n}"
            ),
            Duration::from_secs(120),
        );
    }
    let systems = agent.call("guest-get-fsinfo", json!({})).unwrap();
    let systems = systems.as_array().unwrap();
    let counted = machine.shell.number("mount | grep -c ^/dev");
    assert_eq!(systems.len() as u64, counted, "{systems:#?}");
    for (n, place_of) in PLACES.iter().enumerate() {
        let point = format!("/mnt/{n}");
        let at = systems.iter().position(|one| one["mountpoint"] == point.as_str()).unwrap();
        assert_eq!(at, PLACES.len() - 1 - n, "the one mounted last comes first");
        let places: Vec<_> = systems[at]["disk"].as_array().unwrap().iter().map(place).collect();
        assert_eq!(places, expected(place_of), "{}", systems[at]);
        let kib = |column: u8| format!("df -P -k {point} | awk 'NR == 2 {{ print ${column} }}'");
        assert_eq!(systems[at]["used-bytes"], machine.shell.number(&kib(3)) * 1024);
        assert_eq!(systems[at]["total-bytes-privileged"], machine.shell.number(&kib(2)) * 1024);
    }
    machine.shell.run("for n in 0 1 2 3 4; do umount /mnt/$n; done");
}

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

/// Number and state of each block.
fn blocks(agent: &mut Host) -> Vec<(u64, bool)> {
    let all = agent.call("guest-get-memory-blocks", json!({})).unwrap();
    let all = all.as_array().unwrap().iter();
    all.map(|block| (block["phys-index"].as_u64().unwrap(), block["online"].as_bool().unwrap())).collect()
}

pub(crate) fn blocks_of_a_memory_module_go_online_and_offline(guest: &mut Guest) {
    let machine = hardware(guest);
    let mut agent = machine.agent();
    let size = 128 * MIB;
    assert_eq!(agent.call("guest-get-memory-block-info", json!({})), Ok(json!({ "size": size })));
    let before = blocks(&mut agent);
    assert!(before.iter().all(|(_, online)| *online) && before.is_sorted(), "{before:?}");

    let backend = json!({ "qom-type": "memory-backend-ram", "id": "memory", "size": 2 * size });
    machine.qmp.execute("object-add", backend);
    machine.qmp.execute("device_add", json!({ "driver": "pc-dimm", "id": "module", "memdev": "memory" }));
    let plugged: Vec<u64> = wait::until("the new blocks of memory", Duration::from_secs(60), || {
        let new: Vec<u64> = blocks(&mut agent).into_iter().filter(|b| !before.contains(b)).map(|b| b.0).collect();
        (new.len() == 2).then_some(new)
    });

    let total = |machine: &mut Machine| machine.shell.number("awk '/^MemTotal:/ { print $2 }' /proc/meminfo") * 1024;
    let state = |machine: &mut Machine, index: u64| {
        machine.shell.run(&format!("cat /sys/devices/system/memory/memory{index}/state"))
    };
    let mut set = |online: bool| {
        let asked: Vec<Value> = plugged.iter().map(|index| json!({ "phys-index": index, "online": online })).collect();
        let done: Vec<Value> =
            plugged.iter().map(|index| json!({ "phys-index": index, "response": "success" })).collect();
        assert_eq!(agent.call("guest-set-memory-blocks", json!({ "mem-blks": asked })), Ok(json!(done)));
    };
    // The kernel may have brought them online by itself.
    set(false);
    let without = total(machine);
    for round in 0..2 {
        set(true);
        assert!(plugged.iter().all(|index| state(machine, *index) == "online"), "round {round}");
        assert_eq!(total(machine), without + 2 * size, "round {round}");
        set(false);
        assert!(plugged.iter().all(|index| state(machine, *index) == "offline"), "round {round}");
        assert_eq!(total(machine), without, "round {round}");
    }

    // The kernel's own memory stays where it is.
    let kernels = json!({ "mem-blks": [{ "phys-index": 0, "online": false }, { "phys-index": 9999, "online": true }] });
    let refused = agent.call("guest-set-memory-blocks", kernels).unwrap();
    assert_eq!(refused[0]["response"], "operation-failed", "{refused}");
    assert!(refused[0]["error-code"].as_u64() > Some(0), "{refused}");
    assert_eq!(refused[1], json!({ "phys-index": 9999, "response": "not-found", "error-code": 2 }));
    assert_eq!(state(machine, 0), "online");
    guest.is_spent = true;
}

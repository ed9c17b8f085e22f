//! A module of memory that is plugged in, taken offline and brought online.

use std::time::Duration;

use qga_testkit::{Host, wait};
use serde_json::{Value, json};
use vm_tests::Machine;

use crate::Guest;

const MIB: u64 = 1 << 20;

/// Number and state of each block.
fn blocks(agent: &mut Host) -> Vec<(u64, bool)> {
    let all = agent.call("guest-get-memory-blocks", json!({})).unwrap();
    let all = all.as_array().unwrap().iter();
    all.map(|block| (block["phys-index"].as_u64().unwrap(), block["online"].as_bool().unwrap())).collect()
}

pub(crate) fn blocks_of_a_memory_module_go_online_and_offline(guest: &mut Guest) {
    let machine = &mut guest.machine;
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

//! A sample for programs.

use std::time::UNIX_EPOCH;

use serde_json::{Value, json};

use super::many::Row;

/// What is known of a guest that answers. What it does not tell is null.
pub(crate) fn value(row: &Row<'_>) -> Value {
    let Some(sample) = &row.state.sample else { return Value::Null };
    let usage = row.state.usage.as_deref();
    let cpu = usage.and_then(|usage| usage.cpu).map(
        |cpu| json!({"busy": cpu.busy, "user": cpu.user, "system": cpu.system, "wait": cpu.wait, "steal": cpu.steal}),
    );
    let memory = sample.memory.map(|memory| {
        json!({"total": memory.total, "used": memory.used(), "swap-total": memory.swap_total,
            "swap-used": memory.swap_total - memory.swap_free})
    });
    let blocks =
        sample.blocks.map(|blocks| json!({"online": blocks.online, "offline": blocks.offline, "size": blocks.size}));
    let disks = usage.map(|usage| {
        let disk = |disk: &crate::monitor::DiskRate| {
            json!({"name": disk.name, "read": disk.read, "written": disk.written, "requests": disk.requests,
                "busy": disk.busy})
        };
        usage.disks.iter().map(disk).collect::<Value>()
    });
    let interfaces = usage.map(|usage| {
        let interface =
            |one: &crate::monitor::InterfaceRate| json!({"name": one.name, "received": one.received, "sent": one.sent});
        usage.interfaces.iter().map(interface).collect::<Value>()
    });
    let filesystems = sample.filesystems.as_ref().map(|filesystems| {
        let filesystem = |one: &qga_proto::types::storage::GuestFilesystemInfo| {
            json!({"mountpoint": one.mountpoint, "name": one.name, "type": one.fs_type, "size": one.total_bytes,
                "used": one.used_bytes})
        };
        filesystems.iter().map(filesystem).collect::<Value>()
    });
    let failures = sample.failures.iter().map(|(command, reason)| json!({"command": command, "reason": reason}));
    json!({
        "time": sample.time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64(),
        "version": sample.version,
        "latency": sample.latency.as_secs_f64(),
        "frozen": sample.is_frozen,
        "load": sample.load,
        "processors": sample.processors.map(|(online, all)| json!({"online": online, "all": all})),
        "cpu": cpu,
        "memory": memory,
        "memory-blocks": blocks,
        "filesystems": filesystems,
        "disks": disks,
        "interfaces": interfaces,
        "failures": failures.collect::<Value>(),
    })
}

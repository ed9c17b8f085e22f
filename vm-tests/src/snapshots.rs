//! Snapshots of a running machine with its memory, as `savevm` and `loadvm` make and load them.

use std::path::Path;
use std::time::Duration;

use qga_testkit::wait;
use serde_json::{Value, json};

use crate::qmp::Qmp;

/// The image with the snapshots, as QEMU knows it.
const NODE: &str = "snapshots";

/// The limit for a job of QEMU's: a snapshot is written and read in a second or two.
const PATIENCE: Duration = Duration::from_secs(120);

/// Gives a machine an image to keep snapshots in. The machine must have no disks: a guest that is set back while its
/// disks are not has lost them.
///
/// # Panics
/// When QEMU refuses, as for the others.
pub fn prepare(qmp: &mut Qmp, directory: &Path) {
    let path = directory.join("snapshots.qcow2").display().to_string();
    let create = |qmp: &mut Qmp, options: Value| run(qmp, "blockdev-create", json!({ "options": options }));
    create(qmp, json!({ "driver": "file", "filename": path, "size": 0 }));
    qmp.execute("blockdev-add", json!({ "driver": "file", "node-name": "snapshots-file", "filename": path }));
    create(qmp, json!({ "driver": "qcow2", "file": "snapshots-file", "size": 1 << 20 }));
    qmp.execute("blockdev-add", json!({ "driver": "qcow2", "node-name": NODE, "file": "snapshots-file" }));
}

/// Keeps the machine as it is now.
///
/// # Panics
/// When QEMU cannot.
pub fn save(qmp: &mut Qmp, tag: &str) {
    run(qmp, "snapshot-save", json!({ "tag": tag, "vmstate": NODE, "devices": [NODE] }));
}

/// Sets the machine back.
///
/// # Panics
/// When QEMU cannot.
pub fn load(qmp: &mut Qmp, tag: &str) {
    run(qmp, "snapshot-load", json!({ "tag": tag, "vmstate": NODE, "devices": [NODE] }));
}

/// Forgets a snapshot.
///
/// # Panics
/// When QEMU cannot.
pub fn delete(qmp: &mut Qmp, tag: &str) {
    run(qmp, "snapshot-delete", json!({ "tag": tag, "devices": [NODE] }));
}

/// Runs a job to its end.
#[track_caller]
fn run(qmp: &mut Qmp, command: &str, mut arguments: Value) {
    arguments["job-id"] = json!("job");
    qmp.execute(command, arguments);
    let error = wait::until(&format!("the end of {command}"), PATIENCE, || {
        let jobs = qmp.execute("query-jobs", json!({}));
        let job = jobs.as_array()?.iter().find(|job| job["id"] == "job")?;
        (job["status"] == "concluded").then(|| job["error"].clone())
    });
    qmp.execute("job-dismiss", json!({ "id": "job" }));
    assert!(error.is_null(), "QEMU cannot do {command}: {error}");
}

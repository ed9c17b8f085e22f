//! The commands against real agents: ours and, where it is installed, the C one.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use qga_testkit::{Program, Setup, TestAgent, wait};
use serde_json::Value;

/// Each agent there is.
fn agents(test: &str) -> Vec<TestAgent> {
    let built = Path::new(env!("CARGO_BIN_EXE_qga")).with_file_name("qemu-ga");
    Program::each(test, &built)
        .iter()
        .map(|program| {
            let agent = Setup::new(program).start();
            let is_up = || qga(&agent, &["ping"]).status.success().then_some(());
            wait::until("an answer", Duration::from_secs(60), is_up);
            agent
        })
        .collect()
}

fn qga(agent: &TestAgent, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_qga"));
    command.args(args).env("QGA_TARGET", agent.socket()).env("COLUMNS", "200").stdin(Stdio::null()).output().unwrap()
}

#[test]
fn every_question_is_answered_as_a_table_and_as_json() {
    for agent in agents("every_question_is_answered_as_a_table_and_as_json") {
        let always = ["info", "os", "df", "net", "cpus", "users", "time"];
        // An agent may be too old for these, or the machine may not have what they ask for.
        let perhaps = ["disks", "routes", "mem", "load"];
        for name in always.iter().chain(&perhaps) {
            let table = qga(&agent, &[name]);
            let complaint = String::from_utf8_lossy(&table.stderr).into_owned();
            if perhaps.contains(name) && matches!(table.status.code(), Some(1 | 127)) {
                assert!(complaint.starts_with("qga: "), "{name}: {complaint}");
                continue;
            }
            assert!(table.status.success(), "{name}: {complaint}");
            let table = String::from_utf8(table.stdout).unwrap();
            assert!(table.ends_with('\n') && !table.contains('\x1b'), "{name}: {table}");

            let json = qga(&agent, &["--json", name]);
            let json = String::from_utf8(json.stdout).unwrap();
            assert_eq!(json.lines().count(), 1, "{name}: {json}");
            assert!(serde_json::from_str::<Value>(&json).is_ok(), "{name}: {json}");
        }
    }
}

#[test]
fn what_is_switched_off_is_said_to_be() {
    for agent in agents("what_is_switched_off_is_said_to_be") {
        for args in [&["shutdown"][..], &["time", "--set"], &["suspend"]] {
            let output = qga(&agent, args);
            assert_eq!(output.status.code(), Some(126), "{}", String::from_utf8_lossy(&output.stderr));
            let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(
                complaint.contains("is switched off in the agent") && complaint.contains("block-rpcs"),
                "{complaint}"
            );
        }
    }
}

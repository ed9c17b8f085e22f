//! The library's pieces against real agents: ours and, where it is installed, the C one.

use std::env;
use std::fs;
use std::io::SeekFrom;
use std::time::Duration;

use qga_client::{Client, Error, Exec, GuestFile, Process, freeze};
use qga_proto::Command;
use qga_proto::command::Empty;
use qga_proto::types::core::GuestInfo;
use qga_proto::types::cpu::GuestGetVcpus;
use qga_proto::types::exec::CaptureOutput;
use qga_proto::types::memory::{GuestGetMemoryBlockInfo, GuestGetMemoryBlocks};
use qga_proto::types::network::{GuestNetworkGetInterfaces, GuestNetworkGetRoute};
use qga_proto::types::stats::{GuestGetCpustats, GuestGetDiskstats, GuestGetLoad};
use qga_proto::types::storage::{GuestGetDisks, GuestGetFsinfo};
use qga_proto::types::system::{GuestGetHostName, GuestGetOsinfo, GuestGetTimezone, GuestGetUsers};
use qga_proto::types::time::GuestGetTime;
use qga_testkit::{Program, Setup, TestAgent, wait};

/// Time for everything that is expected to work.
const ENOUGH: Duration = Duration::from_secs(60);

/// Each agent there is, ready to be asked.
fn agents(test: &str) -> Vec<(TestAgent, Client)> {
    // Tests lie in a directory beside the programs.
    let here = env::current_exe().unwrap();
    let programs = Program::each(test, &here.parent().unwrap().with_file_name("qemu-ga"));
    let start = |program: &Program| {
        let agent = Setup::new(program).start();
        // The C agent's socket is there a moment before it listens.
        let client = wait::until("a connection", ENOUGH, || Client::unix(agent.socket(), ENOUGH).ok());
        (agent, client)
    };
    programs.iter().map(start).collect()
}

#[test]
fn files_go_over_in_pieces_and_come_back_the_same() {
    for (agent, mut client) in agents("files_go_over_in_pieces_and_come_back_the_same") {
        let path = agent.dir().join("file");
        let bytes: Vec<u8> =
            (0..3_000_001_u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        let file = GuestFile::open(&mut client, path.to_str().unwrap(), "w+").unwrap();
        file.write_all(&mut client, &bytes).unwrap();
        file.flush(&mut client).unwrap();
        assert!(fs::read(&path).unwrap() == bytes);

        assert_eq!(file.seek(&mut client, SeekFrom::Start(7)).unwrap(), 7);
        assert!(file.read_to_end(&mut client, bytes.len()).unwrap() == bytes[7..]);
        assert_eq!(file.seek(&mut client, SeekFrom::End(-2)).unwrap(), 2_999_999);
        assert_eq!(file.seek(&mut client, SeekFrom::Current(1)).unwrap(), 3_000_000);
        let piece = file.read(&mut client, 100).unwrap();
        assert_eq!(piece.bytes, bytes[3_000_000..]);
        assert!(piece.is_last || file.read(&mut client, 100).unwrap().bytes.is_empty());
        file.seek(&mut client, SeekFrom::Start(0)).unwrap();
        assert!(matches!(file.read_to_end(&mut client, 2_000_000), Err(Error::TooBig(2_000_000))));
        assert!(matches!(file.seek(&mut client, SeekFrom::Start(u64::MAX)), Err(Error::Arguments(_))));
        file.close(&mut client).unwrap();
        let error = GuestFile::open(&mut client, "/nonexistent/x", "r").unwrap_err();
        assert!(error.to_string().contains("No such file or directory"), "{error}");
    }
}

#[test]
fn a_stream_goes_over_with_the_next_piece_under_way_and_comes_back_the_same() {
    for (agent, mut client) in agents("a_stream_goes_over_with_the_next_piece_under_way_and_comes_back_the_same") {
        let path = agent.dir().join("file");
        let bytes: Vec<u8> =
            (0..5_000_003_u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 15) as u8).collect();
        let file = GuestFile::open(&mut client, path.to_str().unwrap(), "w+").unwrap();
        let mut writing = file.write_ahead(&mut client);
        writing.write(&bytes).unwrap();
        writing.finish().unwrap();
        file.seek(&mut client, SeekFrom::Start(0)).unwrap();
        assert!(fs::read(&path).unwrap() == bytes);

        let (mut back, mut piece) = (Vec::new(), Vec::new());
        let mut reading = file.read_ahead(&mut client, u64::MAX);
        while reading.next_into(&mut piece).unwrap() {
            back.extend_from_slice(&piece);
        }
        drop(reading);
        assert!(back == bytes);
        // Who stops in the middle does not get the next question a wrong answer.
        file.seek(&mut client, SeekFrom::Start(0)).unwrap();
        assert!(file.read_ahead(&mut client, u64::MAX).next_into(&mut piece).unwrap());
        assert!(ask::<GuestGetTime>(&mut client).unwrap() > 0);
        file.close(&mut client).unwrap();

        let file = GuestFile::open(&mut client, "/dev/full", "w").unwrap();
        let mut writing = file.write_ahead(&mut client);
        let written = writing.write(&bytes).and_then(|()| writing.finish().map(drop));
        // The C agent writes late.
        let error = written.and_then(|()| file.flush(&mut client)).unwrap_err();
        assert!(matches!(&error, Error::Failed { desc, .. } if desc.contains("No space left on device")), "{error}");
        assert!(ask::<GuestGetTime>(&mut client).unwrap() > 0);
    }
}

#[test]
fn a_program_gets_its_input_and_gives_its_outputs_and_its_code() {
    for (_agent, mut client) in agents("a_program_gets_its_input_and_gives_its_outputs_and_its_code") {
        let script = "read line; echo out $line $WORD; echo err >&2; exit 42";
        let program = Exec::new("/bin/sh").args(["-c", script]).env("WORD", "b").input(b"a\n");
        let finished = program.run(&mut client, ENOUGH).unwrap();
        assert_eq!((finished.out.as_slice(), finished.err.as_slice()), (&b"out a b\n"[..], &b"err\n"[..]));
        assert_eq!((finished.exit_code(), finished.is_success(), finished.is_truncated), (42, false, false));

        let killed = Exec::new("/bin/sh").args(["-c", "kill -9 $$"]).capture(CaptureOutput::None);
        assert_eq!(killed.run(&mut client, ENOUGH).unwrap().exit_code(), 137);
        let error = Exec::new("/nonexistent/program").start(&mut client).unwrap_err();
        assert!(matches!(error, Error::Failed { .. }), "{error}");
    }
}

#[test]
fn a_program_that_takes_too_long_can_be_waited_for_again() {
    for (agent, mut client) in agents("a_program_that_takes_too_long_can_be_waited_for_again") {
        let gate = agent.dir().join("gate");
        let script = format!("until [ -e {} ]; do sleep 0.05; done; echo through", gate.display());
        let process: Process = Exec::new("/bin/sh").args(["-c", &script]).start(&mut client).unwrap();
        let error = process.wait(&mut client, Duration::from_millis(100)).unwrap_err();
        assert!(matches!(error, Error::Timeout { .. }), "{error}");
        fs::write(&gate, "").unwrap();
        assert_eq!(process.wait(&mut client, ENOUGH).unwrap().out, b"through\n");
    }
}

#[test]
fn nothing_is_frozen_and_a_thaw_says_so() {
    for (_agent, mut client) in agents("nothing_is_frozen_and_a_thaw_says_so") {
        assert!(!freeze::is_frozen(&mut client).unwrap());
        // Thawing is harmless, but this machine's agent is not allowed to touch its file systems at all.
        match freeze::thaw(&mut client) {
            Ok(count) => assert_eq!(count, 0),
            Err(error) => assert!(matches!(error, Error::Blocked { .. } | Error::Failed { .. }), "{error}"),
        }
    }
}

/// Asks, and takes no for an answer as long as it is a clear one.
fn ask<C: for<'a> Command<Args<'a> = Empty>>(client: &mut Client) -> Option<C::Ret> {
    match client.call::<C>(Empty {}) {
        Ok(result) => Some(result),
        Err(Error::NotFound { .. } | Error::Failed { .. }) => None,
        Err(error) => panic!("{}: {error}", C::NAME),
    }
}

#[test]
fn every_question_about_the_guest_has_a_typed_answer() {
    for (_agent, mut client) in agents("every_question_about_the_guest_has_a_typed_answer") {
        let client = &mut client;
        assert!(ask::<GuestInfo>(client).unwrap().supported_commands.len() > 30);
        assert!(ask::<GuestGetOsinfo>(client).unwrap().kernel_release.is_some());
        assert!(!ask::<GuestGetHostName>(client).unwrap().host_name.is_empty());
        assert!(ask::<GuestGetTimezone>(client).unwrap().offset.abs() <= 86_400);
        assert!(ask::<GuestGetTime>(client).unwrap() > 1_600_000_000_000_000_000);
        assert!(!ask::<GuestNetworkGetInterfaces>(client).unwrap().is_empty());
        assert!(!ask::<GuestGetVcpus>(client).unwrap().is_empty());
        // These depend on the machine the tests run on; what there is must be understood.
        ask::<GuestGetUsers>(client);
        ask::<GuestGetFsinfo>(client);
        ask::<GuestGetDisks>(client);
        ask::<GuestGetMemoryBlocks>(client);
        ask::<GuestGetMemoryBlockInfo>(client);
        ask::<GuestGetDiskstats>(client);
        ask::<GuestGetCpustats>(client);
        ask::<GuestGetLoad>(client);
        ask::<GuestNetworkGetRoute>(client);
    }
}

//! Commands that only the tests have: they hang, panic, or answer at length when told to.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, LazyLock, Mutex};

use qga_proto::Command;
use qga_proto::base64::Base64Bytes;
use qga_proto::command::Empty;
use qga_proto::error::Result;
use qga_proto::types::core::SyncArgs;

use super::{Context, Entry, Handler, entry};

/// Found besides the real ones.
pub(super) const TEST_COMMANDS: &[Entry] =
    &[entry::<TestWait>(), entry::<TestPanic>(), entry::<TestText>(), entry::<TestBytes>()];

static GATES: LazyLock<Mutex<HashMap<i64, Arc<Gate>>>> = LazyLock::new(Mutex::default);

/// Holds `test-wait` of one number until it is opened.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    open: Mutex<bool>,
    changed: Condvar,
}

impl Gate {
    /// The gate of this number. A number belongs to one test.
    pub(crate) fn of(number: i64) -> Arc<Gate> {
        Arc::clone(GATES.lock().unwrap().entry(number).or_default())
    }

    /// Lets everybody through, now and later.
    pub(crate) fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.changed.notify_all();
    }

    fn pass(&self) {
        let open = self.open.lock().unwrap();
        drop(self.changed.wait_while(open, |open| !*open).unwrap());
    }
}

#[derive(Debug)]
struct TestWait;

impl Command for TestWait {
    const NAME: &'static str = "test-wait";
    const SINCE: &'static str = "";
    type Args<'a> = SyncArgs;
    type Ret = i64;
}

impl Handler for TestWait {
    fn run(_: Context<'_>, args: SyncArgs) -> Result<i64> {
        Gate::of(args.id).pass();
        Ok(args.id)
    }
}

#[derive(Debug)]
struct TestPanic;

impl Command for TestPanic {
    const NAME: &'static str = "test-panic";
    const SINCE: &'static str = "";
    type Args<'a> = Empty;
    type Ret = Empty;
}

impl Handler for TestPanic {
    fn run(_: Context<'_>, _: Empty) -> Result<Empty> {
        panic!("on purpose");
    }
}

#[derive(Debug)]
struct TestText;

impl Command for TestText {
    const NAME: &'static str = "test-text";
    const SINCE: &'static str = "";
    type Args<'a> = SyncArgs;
    type Ret = String;
}

impl Handler for TestText {
    fn run(_: Context<'_>, args: SyncArgs) -> Result<String> {
        Ok("x".repeat(usize::try_from(args.id).unwrap()))
    }
}

#[derive(Debug)]
struct TestBytes;

impl Command for TestBytes {
    const NAME: &'static str = "test-bytes";
    const SINCE: &'static str = "";
    type Args<'a> = SyncArgs;
    type Ret = Base64Bytes;
}

impl Handler for TestBytes {
    fn run(_: Context<'_>, args: SyncArgs) -> Result<Base64Bytes> {
        Ok(Base64Bytes(vec![0; usize::try_from(args.id).unwrap()]))
    }
}

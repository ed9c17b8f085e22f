//! `guest-shutdown`: the machine is stopped by its init system.

use qga_proto::command::Empty;
use qga_proto::error::{Error, Result};
use qga_proto::types::power::{GuestShutdown, ShutdownArgs};

use crate::commands::{Context, Handler};
use crate::platform::linux::init::{self, Mode};

impl Handler for GuestShutdown {
    const NEEDS: &'static str = "root; an init system that ends the machine";

    fn run(cx: Context<'_>, args: ShutdownArgs<'_>) -> Result<Empty> {
        let name = args.mode.as_deref().unwrap_or("powerdown");
        log::info!(target: "audit", "guest-shutdown called, mode: {name}");
        init::shut_down(&cx.state.root, mode(name)?)?;
        Ok(Empty {})
    }
}

fn mode(name: &str) -> Result<Mode> {
    match name {
        "powerdown" => Ok(Mode::Powerdown),
        "halt" => Ok(Mode::Halt),
        "reboot" => Ok(Mode::Reboot),
        // The parenthesis is not closed on the wire either.
        _ => Err(Error::generic("mode is invalid (valid values are: halt|powerdown|reboot")),
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::platform::linux::child::tests::write_program;
    use crate::platform::linux::root::Root;
    use crate::state::State;

    const BAD_MODE: &str = "mode is invalid (valid values are: halt|powerdown|reboot";

    /// Never the machine that the tests run on: its tools are in `dir`.
    fn state(dir: &Path) -> State {
        State { root: Root::new(dir), ..State::for_tests(dir) }
    }

    fn run(state: &State, mode: Option<&str>) -> Result<Empty> {
        let args = ShutdownArgs { mode: mode.map(Cow::Borrowed) };
        GuestShutdown::run(Context { state, reply_limit: None }, args)
    }

    #[test]
    fn each_mode_has_its_program_and_no_mode_switches_the_power_off() {
        for (mode, program) in
            [(None, "poweroff"), (Some("powerdown"), "poweroff"), (Some("halt"), "halt"), (Some("reboot"), "reboot")]
        {
            let dir = tempfile::tempdir().unwrap();
            let state = state(dir.path());
            for tool in ["poweroff", "halt", "reboot"] {
                let script = format!("#!/bin/sh\necho {tool} >> {}/called\n", dir.path().display());
                write_program(&state.root.path("/sbin").join(tool), &script);
            }
            assert_eq!(run(&state, mode), Ok(Empty {}));
            assert_eq!(fs::read_to_string(dir.path().join("called")).unwrap(), format!("{program}\n"));
        }
    }

    #[test]
    fn any_other_mode_is_refused_before_anything_is_run() {
        let dir = tempfile::tempdir().unwrap();
        let state = state(dir.path());
        for mode in ["", "Halt", "poweroff", "halt ", "suspend"] {
            assert_eq!(run(&state, Some(mode)), Err(Error::generic(BAD_MODE)), "{mode}");
        }
        let none = run(&state, Some("halt")).unwrap_err();
        assert!(none.desc.starts_with("child process has failed to shutdown: "), "{none}");
    }
}

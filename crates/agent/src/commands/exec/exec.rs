//! `guest-exec`: starts a program.

use qga_proto::base64;
use qga_proto::command::Command;
use qga_proto::error::Result;
use qga_proto::types::exec::{ExecArgs, ExecRet, GuestExec};

use crate::commands::{Context, Handler};
use crate::platform::linux::spawn::Program;

impl Handler for GuestExec {
    fn run(cx: Context<'_>, args: ExecArgs<'_>) -> Result<ExecRet> {
        let input = args.input_data.as_deref().map(base64::decode).transpose()?;
        let given = args.arg.unwrap_or_default();
        // Arguments may be secret.
        log::info!(target: "audit", "{} called: \"{}\" with {} arguments", Self::NAME, args.path, given.len());
        let program = Program {
            path: &args.path,
            args: &given,
            env: args.env.as_deref(),
            capture: args.capture_output.unwrap_or_default(),
            input: input.is_some(),
        };
        let pid = cx.state.exec.start(&program, input.unwrap_or_default())?;
        Ok(ExecRet { pid })
    }
}

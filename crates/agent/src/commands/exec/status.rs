//! `guest-exec-status`: whether a program has ended, and how, with its output.

use qga_proto::base64::Base64Bytes;
use qga_proto::command::Command;
use qga_proto::error::Result;
use qga_proto::types::exec::{ExecStatusArgs, ExecStatusRet, GuestExecStatus};

use crate::commands::{Context, Handler};
use crate::state::exec::{Captured, End, STATUS_WAIT, Status};

/// What the value takes besides the output: its members. An error for a reply that is too long would cost the whole
/// result.
const AROUND: usize = 256;

impl Handler for GuestExecStatus {
    fn run(cx: Context<'_>, args: ExecStatusArgs) -> Result<ExecStatusRet> {
        log::info!(target: "audit", "{} called, pid: {}", Self::NAME, args.pid);
        let outcome = match cx.state.exec.status(args.pid, STATUS_WAIT)? {
            Status::Running => return Ok(ExecStatusRet::default()),
            Status::Ended(outcome) => outcome,
        };
        let (exitcode, signal) = match outcome.end {
            End::Exited(status) => (Some(i64::from(status)), None),
            End::Killed(signal) => (None, Some(i64::from(signal))),
        };
        let (mut out, mut err) = (outcome.out.unwrap_or_default(), outcome.err.unwrap_or_default());
        if let Some(limit) = cx.reply_limit {
            let [most_out, most_err] = share(limit, [out.bytes.len(), err.bytes.len()]);
            cut(&mut out, most_out);
            cut(&mut err, most_err);
        }
        let (out_data, out_truncated) = members(out);
        let (err_data, err_truncated) = members(err);
        Ok(ExecStatusRet { exited: true, exitcode, signal, out_data, err_data, out_truncated, err_truncated })
    }
}

/// How much of each stream a reply of `limit` bytes carries: half for each, and what one does not need for the other.
fn share(limit: usize, [out, err]: [usize; 2]) -> [usize; 2] {
    // Each may end in a group of four that is not full.
    let room = limit.saturating_sub(AROUND + 8) / 4 * 3;
    [out.min(room.saturating_sub(err).max(room / 2)), err.min(room.saturating_sub(out).max(room / 2))]
}

fn cut(stream: &mut Captured, most: usize) {
    if stream.bytes.len() > most {
        stream.bytes.truncate(most);
        stream.truncated = true;
    }
}

/// A stream that nothing came from is not there at all.
fn members(stream: Captured) -> (Option<Base64Bytes>, Option<bool>) {
    match stream.bytes.is_empty() && !stream.truncated {
        true => (None, None),
        false => (Some(Base64Bytes(stream.bytes)), Some(stream.truncated)),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use qga_proto::types::exec::GuestExec;
    use serde_json::{Value, json};

    use super::*;
    use crate::commands::find;
    use crate::state::State;

    fn call(state: &State, reply_limit: Option<usize>, name: &str, args: &Value) -> (Value, usize) {
        let text = args.to_string();
        let mut out = Vec::new();
        let args = qga_proto::json::read(text.as_bytes()).unwrap();
        (find(name).unwrap().call)(Context { state, reply_limit }, args, &mut out).unwrap();
        (serde_json::from_slice(&out).unwrap(), out.len())
    }

    #[test]
    fn a_long_output_is_cut_to_what_the_channel_carries_and_marked() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::for_tests(dir.path());
        for (script, limit, cut) in [
            ("head -c 90000 /dev/zero; head -c 90000 /dev/zero >&2", Some(100_000), [true, true]),
            ("head -c 90000 /dev/zero; echo short >&2", Some(100_000), [true, false]),
            ("head -c 90000 /dev/zero; head -c 90000 /dev/zero >&2", None, [false, false]),
        ] {
            let args = json!({"path": "sh", "arg": ["-c", script], "capture-output": true});
            let (started, _) = call(&state, limit, GuestExec::NAME, &args);
            let until = Instant::now() + Duration::from_secs(60);
            let (result, size) = loop {
                let (result, size) = call(&state, limit, GuestExecStatus::NAME, &started);
                if result["exited"] == true {
                    break (result, size);
                }
                assert!(Instant::now() < until);
            };
            assert_eq!([&result["out-truncated"], &result["err-truncated"]], [&json!(cut[0]), &json!(cut[1])]);
            if let Some(limit) = limit {
                // It is made use of, with room for the rest of the reply.
                assert!(limit - 1000 < size && size <= limit, "{size}");
            }
        }
    }

    #[test]
    fn a_reply_carries_half_of_each_stream_or_what_the_other_leaves() {
        let limit = AROUND + 8 + 4000;
        for (streams, carried) in [
            ([0, 0], [0, 0]),
            ([1000, 1000], [1000, 1000]),
            ([3000, 0], [3000, 0]),
            ([3001, 0], [3000, 0]),
            ([2000, 1000], [2000, 1000]),
            ([2900, 1000], [2000, 1000]),
            ([9000, 9000], [1500, 1500]),
            ([10, 9000], [10, 2990]),
            ([1501, 1501], [1500, 1500]),
        ] {
            assert_eq!(share(limit, streams), carried, "{streams:?}");
            let encoded: usize = carried.iter().map(|bytes: &usize| bytes.div_ceil(3) * 4).sum();
            assert!(encoded + AROUND <= limit);
        }
        assert_eq!(share(10, [5, 5]), [0, 0]);
    }

    #[test]
    fn what_is_cut_or_lost_whole_is_told() {
        let stream = |bytes: &[u8], truncated| Captured { bytes: bytes.to_vec(), truncated };
        let mut long = stream(b"12345", false);
        cut(&mut long, 5);
        assert_eq!(long, stream(b"12345", false));
        cut(&mut long, 4);
        assert_eq!(members(long), (Some(Base64Bytes(b"1234".to_vec())), Some(true)));
        assert_eq!(members(stream(b"", false)), (None, None));
        assert_eq!(members(stream(b"", true)), (Some(Base64Bytes(Vec::new())), Some(true)));
    }
}

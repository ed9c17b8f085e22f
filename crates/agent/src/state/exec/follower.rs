//! The thread that follows the programs.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::Shared;
use crate::platform::linux::errno::ErrnoText;
use crate::platform::linux::spawn::USUAL_PIPE;
use crate::platform::linux::watch::Watch;

/// Address space for the stack; only touched pages count.
const STACK: usize = 256 << 10;

/// How long it stays when there is nothing to follow: hosts start one program after the other, and a new thread for
/// each costs 0.1 ms of the 0.7 ms that a short one takes.
const LINGER: Duration = Duration::from_millis(250);

/// Starts the thread. It ends by itself when there is nothing to follow, and says so in the table.
///
/// # Errors
/// No descriptors, or no thread.
pub(super) fn start(shared: &Arc<Shared>) -> io::Result<Arc<Watch>> {
    let watch = Arc::new(Watch::new()?);
    let both = (Arc::clone(shared), Arc::clone(&watch));
    thread::Builder::new().name("exec".to_owned()).stack_size(STACK).spawn(move || follow(&both.0, &both.1))?;
    Ok(watch)
}

fn follow(shared: &Shared, watch: &Watch) {
    let mut piece = vec![0; USUAL_PIPE];
    let mut until = None;
    let mut idle: Option<Instant> = None;
    loop {
        let ready = watch.wait(until).unwrap_or_else(|errno| {
            log::error!("cannot wait for programs: {}", errno.errno_text());
            thread::sleep(Duration::from_secs(1));
            Vec::new()
        });
        let mut table = shared.lock();
        let mut ended = false;
        let now = Instant::now();
        for key in ready {
            ended |= table.handle(key, &mut piece, now);
        }
        ended |= table.tick(now);
        let is_over = if table.is_idle() {
            let end = *idle.get_or_insert(now + LINGER);
            until = Some(end);
            now >= end
        } else {
            idle = None;
            until = table.deadline(now);
            false
        };
        if is_over {
            table.watch = None;
        }
        // Let go first: on one processor whoever waits for the end runs at once, and would have to wait for this again.
        drop(table);
        if ended {
            shared.ended.notify_all();
        }
        if is_over {
            return;
        }
    }
}

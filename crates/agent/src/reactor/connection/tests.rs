use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use super::super::poller::{Poller, Token};
use super::*;
use crate::executor::Executor;
use crate::state::State;

/// A client, the connection that serves it, and what is around that.
struct Bench {
    state: Arc<State>,
    executor: Executor,
    poller: Poller,
    connection: Connection,
    client: UnixStream,
    _dir: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (client, ours) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let poller = Poller::new().unwrap();
        poller.watch(&ours, Token(7)).unwrap();
        Bench {
            state: Arc::new(State::for_tests(dir.path())),
            executor: Executor::new().unwrap(),
            poller,
            connection: Connection::new(ours.into(), Session::new(1, None), Peer::Client),
            client,
            _dir: dir,
        }
    }

    /// What the loop does, until nothing is left to do without an event.
    fn turn(&mut self) -> Fate {
        for event in self.poller.wait(Some(Instant::now())).unwrap() {
            self.connection.note(event);
        }
        let mut fate = Fate::Goes;
        let mut turns = 0;
        while matches!(fate, Fate::Goes) && self.connection.has_more() {
            let mut env = Environment { state: &self.state, executor: &mut self.executor };
            fate = self.connection.advance(&mut env, false);
            turns += 1;
            assert!(turns < 1000, "the loop spins");
        }
        fate
    }
}

const PING: &[u8] = b"{\"execute\":\"guest-ping\"}";

#[test]
fn an_end_that_comes_together_with_the_last_request_is_seen() {
    let mut bench = Bench::new();
    assert!(matches!(bench.turn(), Fate::Goes));
    bench.client.write_all(PING).unwrap();
    bench.client.shutdown(Shutdown::Write).unwrap();
    assert!(matches!(bench.turn(), Fate::Over));
    let Bench { connection, mut client, .. } = bench;
    drop(connection);
    let mut got = String::new();
    client.read_to_string(&mut got).unwrap();
    assert_eq!(got, "{\"return\": {}}\n");
}

#[test]
fn all_that_came_before_a_hang_up_is_read_however_much_it_is() {
    let mut bench = Bench::new();
    rustix::net::sockopt::set_socket_send_buffer_size(&bench.client, 8 << 20).unwrap();
    bench.client.set_nonblocking(true).unwrap();
    let mut sent = 0;
    let blanks = vec![b' '; 64 << 10];
    while let Ok(count) = bench.client.write(&blanks) {
        sent += count;
        if sent > 2 * TURN {
            break;
        }
    }
    if sent <= TURN {
        eprintln!("skipped: this machine's sockets hold less than one turn");
        return;
    }
    // Carried out on a worker, so that it shows that it has been read.
    bench.client.write_all(b"{\"execute\":\"guest-get-load\"}").unwrap();
    bench.client.shutdown(Shutdown::Both).unwrap();
    for event in bench.poller.wait(Some(Instant::now())).unwrap() {
        bench.connection.note(event);
    }
    let mut env = Environment { state: &bench.state, executor: &mut bench.executor };
    assert!(matches!(bench.connection.advance(&mut env, false), Fate::Goes), "the first turn is not the last");
    assert!(matches!(bench.turn(), Fate::Over));
    assert!(bench.connection.is_running(), "the request at the end has been read");
}

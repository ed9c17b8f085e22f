//! Whatever an agent sends, and however late: an answer is the answer to the question, or there is none.

use std::collections::VecDeque;
use std::io;

use proptest::collection::vec;
use proptest::prelude::*;
use qga_client::{Answer, Deadline, Error, Stream, Transport, Wire};
use serde_json::Value;
use std::time::Duration;

/// What an agent does with one question.
#[derive(Debug, Clone)]
enum Reaction {
    /// It answers.
    Answer,
    /// It answers so late that the asker has given up.
    Late,
    /// The first bytes of its answer come in time, the others late.
    Cut(usize),
    /// It sends something that nobody asked for behind its answer.
    Chatter(Vec<u8>),
    /// Something else than an answer.
    Junk(Vec<u8>),
}

/// A channel with an agent at its end that is in step with the handshake and reacts to questions as it was told to. What
/// comes late is there before the answer to the next handshake.
#[derive(Debug)]
struct Channel {
    reactions: VecDeque<Reaction>,
    arrived: VecDeque<u8>,
    late: Vec<u8>,
    /// How many bytes come at a time.
    piece: usize,
}

impl Stream for Channel {
    fn send(&mut self, bytes: &[u8], _deadline: Deadline) -> io::Result<()> {
        let is_handshake = bytes[0] == 0xFF;
        let request: Value = serde_json::from_slice(&bytes[usize::from(is_handshake)..]).unwrap();
        if is_handshake {
            self.arrived.extend(self.late.drain(..));
            let id = &request["arguments"]["id"];
            self.arrived.extend([&b"\xFF"[..], format!("{{\"return\": {id}}}\n").as_bytes()].concat());
            return Ok(());
        }
        let answer = format!("{{\"return\": {}}}\n", request["arguments"]["number"]).into_bytes();
        match self.reactions.pop_front().unwrap_or(Reaction::Answer) {
            Reaction::Answer => self.arrived.extend(answer),
            Reaction::Late => self.late.extend(answer),
            Reaction::Cut(at) => {
                let (now, then) = answer.split_at(at.min(answer.len() - 1));
                self.arrived.extend(now);
                self.late.extend(then);
            }
            Reaction::Chatter(more) => {
                self.arrived.extend(answer);
                self.arrived.extend(more);
            }
            Reaction::Junk(junk) => self.arrived.extend(junk),
        }
        Ok(())
    }

    fn receive(&mut self, buffer: &mut [u8], _deadline: Deadline) -> io::Result<usize> {
        let count = self.arrived.len().min(buffer.len()).min(self.piece);
        if count == 0 {
            return Err(io::ErrorKind::TimedOut.into());
        }
        for (place, byte) in buffer.iter_mut().zip(self.arrived.drain(..count)) {
            *place = byte;
        }
        Ok(count)
    }
}

/// Bytes of which many mean something.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        any::<u8>().prop_map(|byte| vec![byte]),
        Just(b"\n".to_vec()),
        Just(b"\xFF".to_vec()),
        Just(b"{\"return\": \"x\"}\n".to_vec()),
        Just(b"{\"error\": {\"class\": \"GenericError\", \"desc\": \"x\"}}\n".to_vec()),
        Just(b"{\"return\": [[[".to_vec()),
    ];
    vec(piece, 0..6).prop_map(|pieces| pieces.concat())
}

fn reactions() -> impl Strategy<Value = Vec<Reaction>> {
    let reaction = prop_oneof![
        3 => Just(Reaction::Answer),
        1 => Just(Reaction::Late),
        1 => (0..20_usize).prop_map(Reaction::Cut),
        1 => bytes().prop_map(Reaction::Chatter),
        1 => bytes().prop_map(Reaction::Junk),
    ];
    vec(reaction, 1..12)
}

proptest! {
    #[test]
    fn an_answer_is_the_answer_to_the_question_or_there_is_none(reactions in reactions(), piece in 1..40_usize) {
        let channel =
            Channel { reactions: reactions.clone().into(), arrived: VecDeque::new(), late: Vec::new(), piece };
        let mut wire = Wire::new(channel);
        let deadline = || Deadline::after(Duration::from_secs(60));
        for (number, reaction) in reactions.iter().enumerate() {
            let request = format!("{{\"execute\":\"x\",\"arguments\":{{\"number\":{number}}}}}\n");
            let answer = match wire.exchange(request.as_bytes(), deadline()) {
                Ok(Answer::Reply(reply)) => reply.read::<Value>(),
                // What comes after an answer may be there before the next question, or look like another channel.
                Ok(Answer::Nothing) | Err(Error::Silent(_) | Error::Monitor(_) | Error::Foreign(_)) => continue,
                other => panic!("{other:?}"),
            };
            match (answer, reaction) {
                (Ok(Ok(answer)), Reaction::Answer | Reaction::Chatter(_)) => prop_assert_eq!(answer, number),
                (answer, Reaction::Junk(_)) => {
                    // Nobody can tell a lie from an answer; the next question must not suffer from it.
                    if answer.is_err() {
                        wire.lose_step();
                    }
                }
                (answer, reaction) => panic!("{answer:?} after {reaction:?}"),
            }
        }
        // However it was before, an agent that answers again is understood.
        let request = b"{\"execute\":\"x\",\"arguments\":{\"number\":4711}}\n";
        match wire.exchange(request, deadline()) {
            Ok(Answer::Reply(reply)) => prop_assert_eq!(reply.read::<Value>().unwrap().unwrap(), 4711),
            other => panic!("{other:?}"),
        }
    }
}

//! Asking for a secret at a terminal.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

/// The keys that mean something else than themselves: interrupt, end, both kinds of erase, erase all.
const INTERRUPT: u8 = 0x03;
const END: u8 = 0x04;
const ERASE: [u8; 2] = [0x08, 0x7f];
const ERASE_ALL: u8 = 0x15;

/// Asks at the terminal that the program was started from, and reads a line that is not shown.
///
/// # Errors
/// What the system says; [`Interrupted`](io::ErrorKind::Interrupted) when Ctrl-C was pressed, for which no signal is sent
/// meanwhile: it would leave a terminal behind that shows nothing.
pub(crate) fn ask(prompt: &str) -> io::Result<String> {
    let mut terminal = OpenOptions::new().read(true).write(true).open("/dev/tty")?;
    // Before the question, so that not even an answer that comes at once is shown.
    let silenced = Silenced::new(&terminal)?;
    terminal.write_all(prompt.as_bytes())?;
    let line = read_line(&mut terminal);
    drop(silenced);
    terminal.write_all(b"\n")?;
    String::from_utf8(line?).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// A terminal that shows nothing of what is typed and hands each key on, until this goes.
struct Silenced {
    terminal: File,
    before: Termios,
}

impl Silenced {
    fn new(terminal: &File) -> io::Result<Self> {
        let before = tcgetattr(terminal)?;
        let mut settings = before.clone();
        settings.local_modes.remove(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG | LocalModes::IEXTEN);
        tcsetattr(terminal, OptionalActions::Drain, &settings)?;
        Ok(Silenced { terminal: terminal.try_clone()?, before })
    }
}

impl Drop for Silenced {
    fn drop(&mut self) {
        // There is nobody to tell, and nothing else to try.
        let _ = tcsetattr(&self.terminal, OptionalActions::Drain, &self.before);
    }
}

/// Reads up to the end of the line as a terminal would put it together.
fn read_line(input: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    let mut key = [0];
    loop {
        if input.read(&mut key)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match key[0] {
            b'\n' | b'\r' => return Ok(line),
            INTERRUPT => return Err(io::ErrorKind::Interrupted.into()),
            END if line.is_empty() => return Err(io::ErrorKind::UnexpectedEof.into()),
            ERASE_ALL => line.clear(),
            byte if ERASE.contains(&byte) => {
                // A whole character, whatever its length.
                while line.pop().is_some_and(|last: u8| last & 0xc0 == 0x80) {}
            }
            byte => line.push(byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(keys: &[u8]) -> Result<Vec<u8>, io::ErrorKind> {
        read_line(&mut &keys[..]).map_err(|error| error.kind())
    }

    #[test]
    fn what_is_erased_is_not_there() {
        assert_eq!(typed(b"pass\n"), Ok(b"pass".to_vec()));
        assert_eq!(typed("aé\x7fb\x08\x08\x08c\r".as_bytes()), Ok(b"c".to_vec()));
        assert_eq!(typed(b"wrong\x15right\n"), Ok(b"right".to_vec()));
        assert_eq!(typed(b"a\x04\n"), Ok(b"a\x04".to_vec()));
    }

    #[test]
    fn an_end_or_an_interrupt_is_no_secret() {
        assert_eq!(typed(b"\x04"), Err(io::ErrorKind::UnexpectedEof));
        assert_eq!(typed(b"pass"), Err(io::ErrorKind::UnexpectedEof));
        assert_eq!(typed(b"pass\x03\n"), Err(io::ErrorKind::Interrupted));
    }
}

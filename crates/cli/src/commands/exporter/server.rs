//! A web server for one page: a thread for each connection, each with a limit, and a limit for all of them.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use qga_client::Deadline;

/// Most connections at the same time; further ones are closed at once.
const CONNECTIONS_MAX: usize = 64;

/// Time for a request to arrive, and again for the response to be taken.
const LIMIT: Duration = Duration::from_secs(5);

/// Most bytes of a request, and most lines of its head.
const REQUEST_MAX: usize = 16 << 10;
const HEADERS_MAX: usize = 64;

/// What is asked.
#[derive(Debug)]
pub(crate) struct Request<'a> {
    /// The page, without a query.
    pub(crate) path: &'a str,
    /// What the client understands.
    accept: &'a str,
}

impl Request<'_> {
    /// Whether the client has named this kind of text.
    pub(crate) fn accepts(&self, kind: &str) -> bool {
        self.accept
            .split(',')
            .any(|one| one.split(';').next().is_some_and(|name| name.trim().eq_ignore_ascii_case(kind)))
    }
}

/// What is answered.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) body: String,
}

/// Answers requests for ever.
pub(crate) fn serve(listener: &TcpListener, respond: &(impl Fn(&Request<'_>) -> Response + Sync)) -> ! {
    let open = AtomicUsize::new(0);
    let open = &open;
    thread::scope(|scope| {
        loop {
            let Ok((stream, _)) = listener.accept() else {
                // No descriptors are left, most likely.
                thread::sleep(Duration::from_millis(100));
                continue;
            };
            if open.fetch_add(1, Ordering::Relaxed) >= CONNECTIONS_MAX {
                open.fetch_sub(1, Ordering::Relaxed);
                continue;
            }
            let serve = move || {
                // A client that goes away, or says nothing sensible, is not worth a word.
                let _ = converse(&stream, LIMIT, respond);
                open.fetch_sub(1, Ordering::Relaxed);
            };
            if thread::Builder::new().spawn_scoped(scope, serve).is_err() {
                open.fetch_sub(1, Ordering::Relaxed);
            }
        }
    })
}

/// Reads one request and answers it.
fn converse(stream: &TcpStream, limit: Duration, respond: &impl Fn(&Request<'_>) -> Response) -> io::Result<()> {
    let head = read_head(&mut Limited { stream, deadline: Deadline::after(limit) })?;
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let is_whole = request.parse(&head).is_ok_and(|status| status.is_complete());
    let plain = |status| Response { status, kind: "text/plain; charset=utf-8", body: format!("{status}\n") };
    let response = match (is_whole, request.method, request.path) {
        (true, Some("GET" | "HEAD"), Some(target)) => {
            let path = target.split('?').next().unwrap_or(target);
            let accept = request.headers.iter().find(|header| header.name.eq_ignore_ascii_case("accept"));
            let accept = accept.and_then(|header| std::str::from_utf8(header.value).ok()).unwrap_or("");
            respond(&Request { path, accept })
        }
        (true, ..) => plain("405 Method Not Allowed"),
        (false, ..) => plain("400 Bad Request"),
    };
    let Response { status, kind, body } = response;
    let mut out = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\
         X-Content-Type-Options: nosniff\r\n\r\n",
        body.len()
    );
    if request.method != Some("HEAD") {
        out.push_str(&body);
    }
    Limited { stream, deadline: Deadline::after(limit) }.write_all(out.as_bytes())?;
    stream.shutdown(Shutdown::Write)
}

/// The bytes up to the empty line that ends the head of a request.
fn read_head(stream: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    let mut piece = [0; 1024];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let count = stream.read(&mut piece)?;
        if count == 0 || head.len() + count > REQUEST_MAX {
            break;
        }
        head.extend(&piece[..count]);
    }
    Ok(head)
}

/// A connection that ends with its deadline, whatever trickles in or out.
struct Limited<'a> {
    stream: &'a TcpStream,
    deadline: Deadline,
}

impl Limited<'_> {
    fn left(&self) -> io::Result<Option<Duration>> {
        let left = self.deadline.left();
        if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(Some(left)) }
    }
}

impl Read for Limited<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(self.left()?)?;
        self.stream.read(buffer)
    }
}

impl Write for Limited<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(self.left()?)?;
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    /// What a server says to these bytes.
    fn ask(bytes: &[u8], limit: Duration) -> (String, io::Result<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        client.write_all(bytes).unwrap();
        let respond = |request: &Request<'_>| Response {
            status: "200 OK",
            kind: "text/plain",
            body: format!("{} {}", request.path, request.accepts("text/x")),
        };
        let result = converse(&server, limit, &respond);
        drop(server);
        let mut said = Vec::new();
        // What was sent and not read ends the connection with a reset, after the response.
        let _ = client.read_to_end(&mut said);
        (String::from_utf8(said).unwrap(), result)
    }

    #[test]
    fn a_request_is_answered_by_its_path_and_what_it_accepts() {
        let (said, _) = ask(b"GET /metrics?x=1 HTTP/1.1\r\nHost: a\r\nAccept: a/b;q=1, text/X;q=0.5\r\n\r\n", LIMIT);
        assert!(said.starts_with("HTTP/1.1 200 OK\r\n") && said.ends_with("\r\n\r\n/metrics true"), "{said}");
        let (said, _) = ask(b"HEAD / HTTP/1.0\r\n\r\n", LIMIT);
        assert!(said.contains("Content-Length: 7\r\n") && said.ends_with("\r\n\r\n"), "{said}");
    }

    #[test]
    fn what_is_no_request_is_refused() {
        for (bytes, status) in [
            (&b"POST /metrics HTTP/1.1\r\nContent-Length: 0\r\n\r\n"[..], "405"),
            (b"hello\r\n\r\n", "400"),
            (b"\xFF\xFE\r\n\r\n", "400"),
        ] {
            let (said, _) = ask(bytes, LIMIT);
            assert!(said.starts_with(&format!("HTTP/1.1 {status} ")), "{said}");
        }
        let endless = [&b"GET / HTTP/1.1\r\nX: "[..], &[b'x'; 2 * REQUEST_MAX]].concat();
        let mut rest = &endless[..];
        assert!(read_head(&mut rest).unwrap().len() <= REQUEST_MAX);
    }

    #[test]
    fn a_client_that_says_nothing_is_left() {
        let start = Instant::now();
        let (said, result) = ask(b"GET / HT", Duration::from_millis(50));
        assert!(said.is_empty() && result.is_err(), "{said}");
        assert!(start.elapsed() < Duration::from_secs(4));
    }
}

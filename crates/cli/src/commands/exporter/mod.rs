//! `qga exporter`

mod metrics;
mod page;
mod server;
#[cfg(test)]
mod tests;
mod watch;

use std::net::{SocketAddr, TcpListener};
use std::thread;
use std::time::Duration;

use clap::Args;

use self::server::{Request, Response};
use self::watch::Watch;
use super::Whole;
use crate::cli::{Options, seconds};
use crate::exit::Failure;
use crate::output::Printer;

/// Time a guest has to answer everything, unless the command line says how much.
const LIMIT: Duration = Duration::from_secs(10);

/// Offer metrics of guests to Prometheus
///
/// Each guest is asked at an interval by a thread of its own, and a scrape shows the newest answers, at once: a guest
/// that does not answer delays no other and no scrape. Of such a guest only that it is down is shown, nothing old.
/// With --all the list of running machines is read again every minute.
///
/// Memory, and the load of agents before QEMU 10.0, are read from files of the guest, which leaves lines in its log;
/// see --no-files.
#[derive(Debug, Args)]
pub(crate) struct Exporter {
    /// Address and port to listen on
    ///
    /// Whoever can reach it reads everything: give it an address of a trusted network only.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:19177")]
    listen: SocketAddr,

    /// Seconds between two looks at a guest
    #[arg(short, long, value_name = "SECS", default_value = "15", value_parser = seconds)]
    interval: Duration,

    /// Seconds between two looks at the list of running machines, with --all
    #[arg(long, value_name = "SECS", default_value = "60", value_parser = seconds)]
    relist: Duration,

    /// Read no files of the guests
    #[arg(long)]
    no_files: bool,
}

impl Whole for Exporter {
    const NAME: &'static str = "exporter";

    fn run(&self, options: &Options) -> Result<u8, Failure> {
        let printer = Printer::new(false, false);
        let watch = Watch::new(self.interval, options.timeout_or(LIMIT), !self.no_files);
        match options.targets() {
            Ok(targets) => watch.update(&targets),
            // libvirt may come later, as it does when the host boots.
            Err(failure) if options.is_all() => watch.list_failed(&failure, &printer),
            Err(failure) => return Err(failure),
        }
        let listen = self.listen;
        let reason = |error: std::io::Error| Failure::Host(format!("cannot listen on {listen}: {}", error.kind()));
        let listener = TcpListener::bind(listen).map_err(reason)?;
        let address = listener.local_addr().map_err(reason)?;
        printer.print(None, &format!("listening on http://{address}/metrics"))?;
        thread::scope(|scope| {
            if options.is_all() {
                scope.spawn(|| {
                    loop {
                        thread::sleep(self.relist);
                        match options.targets() {
                            Ok(targets) => watch.update(&targets),
                            Err(failure) => watch.list_failed(&failure, &printer),
                        }
                    }
                });
            }
            // A signal ends it: there is nothing to be put in order.
            server::serve(&listener, &|request: &Request<'_>| respond(&watch, request))
        })
    }
}

fn respond(watch: &Watch, request: &Request<'_>) -> Response {
    match request.path {
        "/metrics" if request.accepts("application/openmetrics-text") => Response {
            status: "200 OK",
            kind: "application/openmetrics-text; version=1.0.0; charset=utf-8",
            body: metrics::page(watch).openmetrics(),
        },
        "/metrics" => Response {
            status: "200 OK",
            kind: "text/plain; version=0.0.4; charset=utf-8",
            body: metrics::page(watch).classic(),
        },
        "/healthz" => Response { status: "200 OK", kind: "text/plain; charset=utf-8", body: "ok\n".into() },
        "/" => Response {
            status: "200 OK",
            kind: "text/html; charset=utf-8",
            body: "<!DOCTYPE html><title>qga exporter</title><h1>qga exporter</h1><a href=\"/metrics\">metrics</a>\n"
                .into(),
        },
        _ => Response { status: "404 Not Found", kind: "text/plain; charset=utf-8", body: "not found\n".into() },
    }
}

//! Which agents are meant, and how they are reached.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use qga_client::{Client, Error, VSOCK_PORT};

/// One agent, as it was named on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// What it is called in the output.
    name: String,
    way: Way,
}

/// The way to an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Way {
    /// A unix socket.
    Unix(PathBuf),
    /// A port of a guest's vsock.
    Vsock {
        /// The guest's context identifier.
        cid: u32,
        /// The port.
        port: u32,
    },
    /// A serial line or pty.
    Serial(PathBuf),
    /// A machine of libvirt's.
    Libvirt {
        /// Which libvirt, if that was said.
        uri: Option<String>,
        /// The machine's name.
        domain: String,
    },
}

impl Target {
    /// A machine of libvirt's, which goes by its name.
    pub(crate) fn domain(uri: Option<&str>, domain: &str) -> Self {
        Target { name: domain.to_owned(), way: Way::Libvirt { uri: uri.map(str::to_owned), domain: domain.to_owned() } }
    }

    /// The same, with a URI for a machine of libvirt's that was named without one.
    pub(crate) fn with_uri(mut self, default: Option<&str>) -> Self {
        if let Way::Libvirt { uri: uri @ None, .. } = &mut self.way {
            *uri = default.map(str::to_owned);
        }
        self
    }

    /// The way to it.
    pub(crate) fn way(&self) -> &Way {
        &self.way
    }

    /// What it is called in the output.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The way to it, which no option changes any more: what another `qga` may be given after `-t`.
    pub(crate) fn spelled(&self) -> String {
        match &self.way {
            Way::Unix(path) => format!("unix:{}", path.display()),
            Way::Vsock { cid, port } => format!("vsock:{cid}:{port}"),
            Way::Serial(path) => format!("serial:{}", path.display()),
            Way::Libvirt { uri: None, domain } => format!("libvirt:{domain}"),
            Way::Libvirt { uri: Some(uri), domain } => format!("libvirt:{uri}/{domain}"),
        }
    }

    /// Whether others can use the way while it is open: libvirt asks for all of them, everything else serves one.
    pub(crate) fn is_shared(&self) -> bool {
        matches!(self.way, Way::Libvirt { .. })
    }

    /// Connects; the time also holds for each command afterwards.
    pub(crate) fn connect(&self, timeout: Duration) -> Result<Client, Error> {
        match &self.way {
            Way::Unix(path) => Client::unix(path, timeout),
            Way::Vsock { cid, port } => Client::vsock(*cid, *port, timeout),
            Way::Serial(path) => Client::serial(path, timeout),
            Way::Libvirt { uri, domain } => Client::libvirt(uri.as_deref(), domain, timeout),
        }
    }
}

impl FromStr for Target {
    type Err = String;

    /// `unix:PATH`, `vsock:CID[:PORT]`, `serial:PATH`, `libvirt:[URI/]DOMAIN`, or just the path of a socket.
    fn from_str(text: &str) -> Result<Self, String> {
        let way = match text.split_once(':') {
            Some(("unix", path)) => Way::Unix(not_empty(path, "path")?.into()),
            Some(("serial", path)) => Way::Serial(not_empty(path, "path")?.into()),
            Some(("vsock", address)) => {
                let (cid, port) = address.split_once(':').map_or((address, None), |(cid, port)| (cid, Some(port)));
                let port = port.map_or(Ok(VSOCK_PORT), |port| number(port, "port"))?;
                Way::Vsock { cid: number(cid, "context identifier (CID)")?, port }
            }
            Some(("libvirt", name)) => {
                // A domain's name has no slash, a URI may have any number.
                let (uri, domain) = name.rsplit_once('/').map_or((None, name), |(uri, domain)| (Some(uri), domain));
                let uri = uri.map(|uri| not_empty(uri, "URI").map(str::to_owned)).transpose()?;
                Way::Libvirt { uri, domain: not_empty(domain, "domain")?.to_owned() }
            }
            // A socket may have a colon in its name, but then it should be clear that it is one.
            Some((kind, _)) if !kind.contains(['/', '.']) => {
                return Err(format!("'{kind}' is none of unix, vsock, serial, libvirt; for a path write ./{text}"));
            }
            _ => Way::Unix(not_empty(text, "path")?.into()),
        };
        Ok(Target { name: text.to_owned(), way })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

fn not_empty<'a>(text: &'a str, what: &str) -> Result<&'a str, String> {
    if text.is_empty() { Err(format!("the {what} is missing")) } else { Ok(text) }
}

fn number(text: &str, what: &str) -> Result<u32, String> {
    text.parse().map_err(|_| format!("'{text}' is no {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(text: &str) -> Way {
        text.parse::<Target>().unwrap_or_else(|error| panic!("{text}: {error}")).way
    }

    #[test]
    fn a_bare_path_is_a_unix_socket() {
        for text in ["/run/vm/qga.sock", "qga.sock", "./a:b", "/run/qemu-server/100.qga", "../vsock:3"] {
            assert_eq!(way(text), Way::Unix(text.into()));
        }
        assert_eq!(way("unix:/run/a:b"), Way::Unix("/run/a:b".into()));
        assert_eq!(way("unix:relative"), Way::Unix("relative".into()));
    }

    #[test]
    fn vsock_has_a_port_of_its_own_or_the_usual_one() {
        assert_eq!(way("vsock:3"), Way::Vsock { cid: 3, port: VSOCK_PORT });
        assert_eq!(way("vsock:3:9000"), Way::Vsock { cid: 3, port: 9000 });
    }

    #[test]
    fn the_domain_stands_behind_the_last_slash_of_a_uri() {
        let libvirt =
            |uri: Option<&str>, domain: &str| Way::Libvirt { uri: uri.map(str::to_owned), domain: domain.to_owned() };
        assert_eq!(way("libvirt:vm1"), libvirt(None, "vm1"));
        assert_eq!(way("libvirt:qemu:///system/vm1"), libvirt(Some("qemu:///system"), "vm1"));
        assert_eq!(
            way("libvirt:qemu+ssh://root@host:22/system/my vm"),
            libvirt(Some("qemu+ssh://root@host:22/system"), "my vm")
        );
        let socket = "qemu:///system?socket=/run/x/libvirt-sock";
        assert_eq!(way(&format!("libvirt:{socket}/vm1")), libvirt(Some(socket), "vm1"));
        let with_uri = "libvirt:vm1".parse::<Target>().unwrap().with_uri(Some("qemu:///session"));
        assert_eq!(with_uri.way, libvirt(Some("qemu:///session"), "vm1"));
    }

    #[test]
    fn a_target_is_spelled_so_that_it_is_read_as_the_same() {
        for text in
            ["/run/x", "unix:a:b", "serial:/dev/pts/1", "vsock:3", "libvirt:vm1", "libvirt:qemu:///system/my vm"]
        {
            let target = text.parse::<Target>().unwrap().with_uri(Some("qemu:///session"));
            assert_eq!(way(&target.spelled()), target.way, "{text}");
        }
    }

    #[test]
    fn what_is_none_of_them_is_refused_with_the_reason() {
        let cases = [
            ("", "path is missing"),
            ("unix:", "path is missing"),
            ("serial:", "path is missing"),
            ("vsock:", "no context identifier"),
            ("vsock:three", "'three' is no context identifier"),
            ("vsock:3:", "'' is no port"),
            ("vsock:3:99999999999", "is no port"),
            ("libvirt:", "domain is missing"),
            ("libvirt:qemu:///system/", "domain is missing"),
            ("libvirt:/vm1", "URI is missing"),
            ("tcp:host:22", "'tcp' is none of unix, vsock, serial, libvirt"),
        ];
        for (text, complaint) in cases {
            let error = text.parse::<Target>().unwrap_err();
            assert!(error.contains(complaint), "{text}: {error}");
        }
    }
}

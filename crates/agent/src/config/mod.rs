//! The effective configuration: built-in values, then the configuration file, then the command line.

mod dump;
mod fsfreeze;
pub mod keyfile;
pub mod lists;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

pub use self::fsfreeze::Fsfreeze;
use self::keyfile::KeyFile;
use crate::platform::linux::errno::ErrnoText;

/// The configuration file that is read when neither `-c` nor `QGA_CONF` names one. It may be absent.
pub const DEFAULT_FILE: &str = "/etc/qemu/qemu-ga.conf";
/// The hook that `-F` without a path stands for.
pub const DEFAULT_HOOK: &str = "/etc/qemu/fsfreeze-hook";
/// The port that QEMU's documentation, libvirt and Proxmox give a guest agent.
pub const DEFAULT_VIRTIO_PATH: &str = "/dev/virtio-ports/org.qemu.guest_agent.0";
/// The first serial port.
pub const DEFAULT_ISA_PATH: &str = "/dev/ttyS0";

/// The channel methods.
pub const METHODS: [&str; 4] = ["virtio-serial", "isa-serial", "unix-listen", "vsock-listen"];

/// A file above this size is no configuration file.
const MAX_FILE: u64 = 1 << 20;

/// The group of the configuration file that is ours.
const GROUP: &str = "general";

/// What the agent was told to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Goes into the background.
    pub daemonize: bool,
    /// How the host is reached: one of [`METHODS`].
    pub method: String,
    /// Device, socket, or `<cid>:<port>`. None under socket activation.
    pub path: Option<PathBuf>,
    /// Where the log goes; standard error if None.
    pub logfile: Option<PathBuf>,
    /// Where the process id is written when in the background.
    pub pidfile: PathBuf,
    /// The program to run around a freeze.
    pub fsfreeze_hook: Option<PathBuf>,
    /// Where the small files are that outlive the process.
    pub statedir: PathBuf,
    /// Logs everything.
    pub verbose: bool,
    /// Waits for an absent channel, and opens a lost one again.
    pub retry_path: bool,
    /// Commands that may not be called.
    pub block_rpcs: Vec<String>,
    /// The only commands that may be called; all if empty.
    pub allow_rpcs: Vec<String>,
    /// Bytes of the largest reply, 0 for no limit; the channel decides if None.
    pub reply_limit: Option<usize>,
    /// How to freeze, beyond what the C agent can be told.
    pub fsfreeze: Fsfreeze,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            daemonize: false,
            method: "virtio-serial".into(),
            path: None,
            logfile: None,
            pidfile: "/var/run/qemu-ga.pid".into(),
            fsfreeze_hook: None,
            statedir: "/var/run".into(),
            verbose: false,
            retry_path: false,
            block_rpcs: Vec::new(),
            allow_rpcs: Vec::new(),
            reply_limit: None,
            fsfreeze: Fsfreeze::default(),
        }
    }
}

impl Config {
    /// Takes over what the file `path` sets, and pushes a line to `warnings` for whatever in it has no effect.
    ///
    /// `Ok(false)` if there is no such file. The error is the reason, without the file's name.
    pub fn load(&mut self, path: &Path, warnings: &mut Vec<String>) -> Result<bool, String> {
        let Some(text) = read_file(path)? else { return Ok(false) };
        self.take(&text, path, warnings)?;
        Ok(true)
    }

    /// Takes over what a file's text sets; `path` is for the warnings.
    ///
    /// # Errors
    /// As of [`Config::load`].
    pub fn take(&mut self, text: &[u8], path: &Path, warnings: &mut Vec<String>) -> Result<(), String> {
        let file = KeyFile::parse(text)?;
        let shown = path.display();
        for group in file.groups().filter(|g| *g != GROUP) {
            warnings.push(format!("{shown}: group '{group}' has no meaning here and is ignored"));
        }
        for key in file.keys(GROUP) {
            if let Some(hint) = unknown_key(key) {
                warnings.push(format!("{shown}: unknown key '{key}' is ignored{hint}"));
            }
        }
        self.apply(&file)
    }

    fn apply(&mut self, file: &KeyFile) -> Result<(), String> {
        let flag = |key, into: &mut bool| -> Result<(), String> {
            if let Some(value) = file.boolean(GROUP, key)? {
                *into = value;
            }
            Ok(())
        };
        flag("daemon", &mut self.daemonize)?;
        flag("verbose", &mut self.verbose)?;
        flag("retry-path", &mut self.retry_path)?;
        let string = |key| file.string(GROUP, key);
        if let Some(v) = string("method")? {
            self.method = v;
        }
        if let Some(v) = string("path")? {
            self.path = Some(v.into());
        }
        if let Some(v) = string("logfile")? {
            self.logfile = Some(v.into());
        }
        if let Some(v) = string("pidfile")? {
            self.pidfile = v.into();
        }
        if let Some(v) = string("fsfreeze-hook")? {
            self.fsfreeze_hook = Some(v.into());
        }
        if let Some(v) = string("statedir")? {
            self.statedir = v.into();
        }
        if let Some(v) = string("block-rpcs")? {
            lists::extend(&mut self.block_rpcs, &v);
        }
        if let Some(v) = string("allow-rpcs")? {
            lists::extend(&mut self.allow_rpcs, &v);
        }
        if let Some(v) = file.integer(GROUP, "reply-limit")? {
            self.reply_limit = Some(usize::try_from(v).map_err(|_| keyfile::uninterpretable("reply-limit"))?);
        }
        for key in Fsfreeze::KEYS {
            if let Some(value) = string(key)? {
                self.fsfreeze.set(key, value.trim_end()).map_err(|_| keyfile::uninterpretable(key))?;
            }
        }
        Ok(())
    }

    /// Fills in the path that a method has by default.
    ///
    /// # Errors
    /// The method has none: `must specify a path for this channel`.
    pub fn default_path(&mut self) -> Result<(), String> {
        if self.path.is_none() {
            self.path = Some(PathBuf::from(match self.method.as_str() {
                "virtio-serial" => DEFAULT_VIRTIO_PATH,
                "isa-serial" => DEFAULT_ISA_PATH,
                _ => return Err("must specify a path for this channel".into()),
            }));
        }
        Ok(())
    }

    /// Makes every path independent of the working directory, which a daemon leaves.
    ///
    /// # Errors
    /// The working directory cannot be told.
    pub fn make_absolute(&mut self) -> Result<(), String> {
        let fix = |path: &mut PathBuf| -> Result<(), String> {
            if path.is_relative() && !path.as_os_str().is_empty() {
                *path = std::path::absolute(&path)
                    .map_err(|e| format!("cannot tell the working directory: {}", e.errno_text()))?;
            }
            Ok(())
        };
        fix(&mut self.pidfile)?;
        fix(&mut self.statedir)?;
        if let Some(path) = self.path.as_mut().filter(|_| self.method != "vsock-listen") {
            fix(path)?;
        }
        self.logfile.iter_mut().try_for_each(fix)?;
        self.fsfreeze.hook_dir.iter_mut().try_for_each(fix)?;
        self.fsfreeze_hook.iter_mut().try_for_each(fix)
    }

    /// The configuration as a file that [`Config::load`] reads.
    pub fn dump(&self) -> String {
        dump::dump(self)
    }
}

/// What to say after "unknown key"; None if the key is known.
fn unknown_key(key: &str) -> Option<&'static str> {
    match key {
        "daemon" | "method" | "path" | "logfile" | "pidfile" | "fsfreeze-hook" | "statedir" | "verbose"
        | "retry-path" | "block-rpcs" | "allow-rpcs" | "reply-limit" => None,
        "daemonize" => Some("; the key is 'daemon'"),
        "blacklist" => Some("; the key is 'block-rpcs'"),
        "whitelist" => Some("; the key is 'allow-rpcs'"),
        key if Fsfreeze::KEYS.contains(&key) => None,
        _ => Some(""),
    }
}

/// The content of a regular file; None if there is none.
fn read_file(path: &Path) -> Result<Option<Vec<u8>>, String> {
    // Without NONBLOCK a FIFO given by mistake would hang the start.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(fd) => File::from(fd),
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(e) => return Err(e.errno_text()),
    };
    let text = |e: io::Error| e.errno_text();
    let meta = file.metadata().map_err(text)?;
    if !meta.is_file() {
        return Err("Not a regular file".into());
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(text)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err("File too large".into());
    }
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests;

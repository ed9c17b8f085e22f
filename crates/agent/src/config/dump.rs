//! `--dump-conf`.

use std::fmt::Write;
use std::path::Path;

use super::Config;
use super::keyfile::escape;
use super::lists;

/// One group, keys in the C agent's order. The lists keep their order, which the C agent reverses.
pub(super) fn dump(config: &Config) -> String {
    let mut out = String::from("[general]\n");
    let mut line = |key: &str, value: &str| {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{key}={value}");
    };
    let path = |path: &Path| escape(&path.to_string_lossy());
    let flag = |flag| if flag { "true" } else { "false" };
    line("daemon", flag(config.daemonize));
    line("method", &escape(&config.method));
    if let Some(p) = &config.path {
        line("path", &path(p));
    }
    if let Some(p) = &config.logfile {
        line("logfile", &path(p));
    }
    line("pidfile", &path(&config.pidfile));
    if let Some(p) = &config.fsfreeze_hook {
        line("fsfreeze-hook", &path(p));
    }
    line("statedir", &path(&config.statedir));
    line("verbose", flag(config.verbose));
    line("retry-path", flag(config.retry_path));
    line("block-rpcs", &escape(&lists::join(&config.block_rpcs)));
    line("allow-rpcs", &escape(&lists::join(&config.allow_rpcs)));
    // Not a key of the C agent's, so only there where it was set.
    if let Some(limit) = config.reply_limit {
        line("reply-limit", &limit.to_string());
    }
    for (key, value) in config.fsfreeze.changed() {
        line(key, &escape(&value));
    }
    out
}

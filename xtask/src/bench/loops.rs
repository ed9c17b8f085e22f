//! Many disks for an agent to list: loop devices on one small file.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::process::{Result, output};

/// The kernel removes a loop device by a call (`LOOP_CTL_REMOVE`, 0x4c81) for which there is no program. One that somebody
/// still looks at is busy for a moment.
const REMOVE: &str = "\
import errno, fcntl, sys, time
left = [int(number) for number in sys.argv[1:]]
with open('/dev/loop-control') as control:
    for _ in range(100):
        busy = []
        for number in left:
            try:
                fcntl.ioctl(control, 0x4c81, number)
            except OSError as error:
                if error.errno == errno.EBUSY:
                    busy.append(number)
                elif error.errno != errno.ENODEV:
                    raise
        left = busy
        if not left:
            sys.exit()
        time.sleep(0.05)
sys.exit(f'busy: {left}')
";

/// Loop devices that are detached at the end; those that had to be made for it are removed then.
pub(super) struct Loops {
    /// The attached ones, by node.
    attached: Vec<PathBuf>,
    /// Numbers of all that were there before.
    before: Vec<u32>,
    /// The file under all of them.
    _file: tempfile::NamedTempFile,
}

impl Loops {
    /// Attaches so many.
    pub(super) fn attach(count: usize) -> Result<Loops> {
        let failed = |error: std::io::Error| format!("a file for loop devices: {error}");
        let file = tempfile::NamedTempFile::new().map_err(failed)?;
        file.as_file().set_len(1 << 20).map_err(failed)?;
        let path = file.path().to_owned();
        let present = fs::read_dir("/sys/block").map_err(|error| format!("/sys/block: {error}"))?;
        let before = present.flatten().filter_map(|entry| number(entry.file_name().to_str()?)).collect();
        let mut loops = Loops { attached: Vec::new(), before, _file: file };
        for _ in 0..count {
            let device = output(Command::new("losetup").args(["--find", "--show", "--read-only"]).arg(&path))?;
            loops.attached.push(device.trim().into());
        }
        Ok(loops)
    }
}

/// Numbers of those that were made for it: attached, and not there before.
fn made(attached: &[PathBuf], before: &[u32]) -> Vec<u32> {
    let numbers = attached.iter().filter_map(|device| number(device.file_name()?.to_str()?));
    numbers.filter(|number| !before.contains(number)).collect()
}

impl Drop for Loops {
    fn drop(&mut self) {
        for devices in self.attached.chunks(100) {
            let _ = Command::new("losetup").arg("--detach").args(devices).status();
        }
        let made = made(&self.attached, &self.before).into_iter().map(|number| number.to_string());
        let made: Vec<String> = made.collect();
        if !made.is_empty() {
            let removed = Command::new("python3").args(["-c", REMOVE]).args(&made).status();
            if !removed.is_ok_and(|status| status.success()) {
                eprintln!("empty loop devices that were made for this are left");
            }
        }
    }
}

/// The number of `loop7`.
fn number(name: &str) -> Option<u32> {
    name.strip_prefix("loop")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loop_devices_that_were_there_are_not_removed() {
        let attached = ["/dev/loop7", "/dev/loop70", "/dev/loop-control"].map(PathBuf::from);
        assert_eq!(made(&attached, &[7]), [70]);
    }
}

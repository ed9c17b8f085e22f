//! `qga.state.isfrozen`: tells an agent that starts again whether its predecessor had file systems frozen.
//!
//! A freeze ends with the boot it was made in, while the file may be carried over in a snapshot taken of the frozen
//! disk. So the file names its boot; a marker of another boot means nothing.

use std::fs;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};

use crate::platform::linux::errno::ErrnoText;
use crate::platform::linux::root::Root;

/// Where the kernel tells which boot this is.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// How long a change of the file is waited for. It takes microseconds, unless the file system of the state directory
/// is frozen by somebody else.
const LIMIT: Duration = Duration::from_secs(2);
/// No marker of ours comes near this.
const MAX_FILE: usize = 1 << 20;

/// What the marker is called, and what its guardian calls it after having thawed alone.
const NAME: &str = "qga.state.isfrozen";
const NAME_THAWED: &str = "qga.state.thawed";
/// What stands before the name of the guardian.
const GUARDIAN: &str = "guardian ";

/// The marker file.
#[derive(Debug, Clone)]
pub struct FrozenMarker {
    file: Arc<MarkerFile>,
    boot: Option<String>,
}

#[derive(Debug)]
struct MarkerFile {
    path: PathBuf,
    /// What should be: the content, or no file.
    wanted: Mutex<Option<String>>,
    /// Held by whoever is changing the file, so that a change which was stuck cannot undo a later one.
    changing: Mutex<()>,
}

impl FrozenMarker {
    /// The marker of a state directory.
    ///
    /// # Errors
    /// Whether it exists cannot be told. Neither "frozen", which switches most commands off, nor "thawed" would be a
    /// safe guess then.
    pub fn new(statedir: &Path, root: &Root) -> Result<Self, String> {
        let path = statedir.join(NAME);
        if let Err(e) = read(&path) {
            return Err(format!("unable to access state file at path {}: {}", path.display(), e.errno_text()));
        }
        let boot = root.read(BOOT_ID).ok().and_then(|id| String::from_utf8(id).ok());
        let boot = boot.map(|id| id.trim().to_owned()).filter(|id| !id.is_empty());
        let file = MarkerFile { path, wanted: Mutex::new(None), changing: Mutex::new(()) };
        Ok(FrozenMarker { file: Arc::new(file), boot })
    }

    /// Where the file is, for messages.
    pub fn path(&self) -> &Path {
        &self.file.path
    }

    /// Whether there is a marker of this boot. The C agent's marker is empty and says nothing about its boot; it is
    /// believed, and so is any if the kernel does not tell which boot this is.
    pub fn is_current(&self) -> bool {
        let Ok(Some(text)) = read(&self.file.path) else { return false };
        let Some(boot) = &self.boot else { return true };
        text.trim().is_empty() || text.lines().next() == Some(boot)
    }

    /// The file systems (major, minor) that a marker of this boot names; none if there is no such marker.
    pub fn devices(&self) -> Vec<(u32, u32)> {
        if !self.is_current() {
            return Vec::new();
        }
        let text = read(&self.file.path).ok().flatten().unwrap_or_default();
        let device = |line: &str| {
            let (major, minor) = line.split_once(':')?;
            Some((major.parse().ok()?, minor.parse().ok()?))
        };
        text.lines().skip(1).filter_map(device).collect()
    }

    /// The guardian that a marker of this boot names.
    pub fn guardian(&self) -> Option<String> {
        if !self.is_current() {
            return None;
        }
        let text = read(&self.file.path).ok().flatten()?;
        text.lines().find_map(|line| line.strip_prefix(GUARDIAN)).map(str::to_owned)
    }

    /// Whether a guardian has left word, in this boot, that it thawed because the agent was gone. The word is taken.
    pub fn take_word_of_thaw(&self) -> bool {
        let path = self.file.path.with_file_name(NAME_THAWED);
        let Ok(Some(text)) = read(&path) else { return false };
        if let Err(e) = fs::remove_file(&path) {
            log::warn!("cannot remove {}: {}", path.display(), e.errno_text());
        }
        self.boot.as_deref().is_none_or(|boot| text.lines().next() == Some(boot))
    }

    /// Writes the marker without naming file systems; see [`FrozenMarker::set_for`].
    pub fn set(&self) {
        self.set_for(&[]);
    }

    /// Writes the marker, naming the file systems (major, minor) that are going to be frozen.
    ///
    /// To be called before the first of them is frozen: the state directory may lie on one. A failure is logged, and
    /// only costs what an agent that starts again would have known.
    pub fn set_for(&self, devices: &[(u32, u32)]) {
        self.write(devices, None);
    }

    /// The same, naming also the guardian that a later agent can take over from.
    pub fn set_guarded(&self, devices: &[(u32, u32)], guardian: &str) {
        self.write(devices, Some(guardian));
    }

    fn write(&self, devices: &[(u32, u32)], guardian: Option<&str>) {
        let mut text = format!("{}\n", self.boot.as_deref().unwrap_or("unknown"));
        for (major, minor) in devices {
            text.push_str(&format!("{major}:{minor}\n"));
        }
        if let Some(guardian) = guardian {
            text.push_str(&format!("{GUARDIAN}{guardian}\n"));
        }
        self.change(Some(text));
    }

    /// Removes the marker, after everything is thawed. A failure is logged.
    pub fn clear(&self) {
        self.change(None);
    }

    /// Does it on a thread of its own, and does not wait for ever.
    fn change(&self, content: Option<String>) {
        *self.file.wanted.lock().unwrap_or_else(PoisonError::into_inner) = content;
        let file = Arc::clone(&self.file);
        let (done, wait) = mpsc::channel();
        let work = move || {
            // If nobody waits any more, nobody is to be told.
            let _ = done.send(file.apply());
        };
        let result = match thread::Builder::new().name("marker".into()).stack_size(64 << 10).spawn(work) {
            Ok(_) => wait.recv_timeout(LIMIT).unwrap_or_else(|_| Err(ErrorKind::TimedOut.into())),
            // There are too many already; better a wait than a mark that is wrong.
            Err(_) => self.file.apply(),
        };
        if let Err(e) = result {
            log::error!("cannot update {}: {}", self.file.path.display(), e.errno_text());
        }
    }
}

impl MarkerFile {
    /// Makes the file what it should be at the time when this gets its turn.
    fn apply(&self) -> io::Result<()> {
        let _turn = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match wanted {
            Some(text) => {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let fd = rustix::fs::open(&self.path, flags, Mode::RUSR | Mode::WUSR)?;
                fs::File::from(fd).write_all(text.as_bytes())
            }
            None => match fs::remove_file(&self.path) {
                Err(e) if e.kind() != ErrorKind::NotFound => Err(e),
                _ => Ok(()),
            },
        }
    }
}

/// Turns the marker into the word that file systems were thawed while there was no agent.
pub fn leave_word_of_thaw(statedir: &Path) {
    // Without it the next agent finds out by itself that nothing is frozen.
    let _ = fs::rename(statedir.join(NAME), statedir.join(NAME_THAWED));
}

/// The content, None if there is no file. Content that is not text counts as a marker of no boot.
fn read(path: &Path) -> io::Result<Option<String>> {
    match fs::read(path) {
        Ok(bytes) if bytes.len() > MAX_FILE => Ok(Some("unreadable".into())),
        Ok(bytes) => Ok(Some(String::from_utf8(bytes).unwrap_or_else(|_| "unreadable".into()))),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    struct Machine {
        dir: tempfile::TempDir,
    }

    impl Machine {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            fs::create_dir(dir.path().join("state")).unwrap();
            let machine = Machine { dir };
            machine.boot("11111111-2222-3333-4444-555555555555");
            machine
        }

        fn boot(&self, id: &str) {
            let file = self.dir.path().join(BOOT_ID.trim_start_matches('/'));
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, format!("{id}\n")).unwrap();
        }

        fn file(&self) -> PathBuf {
            self.dir.path().join("state/qga.state.isfrozen")
        }

        fn marker(&self) -> FrozenMarker {
            FrozenMarker::new(&self.dir.path().join("state"), &Root::new(self.dir.path())).unwrap()
        }
    }

    #[test]
    fn a_marker_is_believed_by_the_next_agent_of_the_same_boot() {
        let machine = Machine::new();
        let marker = machine.marker();
        assert!(!marker.is_current());
        marker.set_for(&[(8, 1), (254, 12)]);
        assert!(machine.marker().is_current());
        assert_eq!(machine.marker().devices(), [(8, 1), (254, 12)]);
        assert_eq!(fs::metadata(machine.file()).unwrap().permissions().mode() & 0o777, 0o600);
        machine.marker().clear();
        assert!(!machine.file().exists());
        assert!(!marker.is_current());
    }

    #[test]
    fn a_marker_carried_over_in_a_disk_image_means_nothing() {
        let machine = Machine::new();
        machine.marker().set_for(&[(8, 1)]);
        machine.boot("99999999-2222-3333-4444-555555555555");
        assert!(!machine.marker().is_current());
        assert_eq!(machine.marker().devices(), []);
    }

    #[test]
    fn a_marker_names_the_guardian_and_its_thaw_is_heard_of_once() {
        let machine = Machine::new();
        assert_eq!(machine.marker().guardian(), None);
        machine.marker().set_guarded(&[(8, 1)], "somebody-1");
        assert_eq!(machine.marker().devices(), [(8, 1)]);
        assert_eq!(machine.marker().guardian().as_deref(), Some("somebody-1"));
        assert!(!machine.marker().take_word_of_thaw());
        leave_word_of_thaw(&machine.dir.path().join("state"));
        assert!(!machine.marker().is_current());
        assert_eq!(machine.marker().guardian(), None);
        assert!(machine.marker().take_word_of_thaw());
        assert!(!machine.marker().take_word_of_thaw());
        machine.marker().set_guarded(&[(8, 1)], "somebody-1");
        leave_word_of_thaw(&machine.dir.path().join("state"));
        machine.boot("99999999-2222-3333-4444-555555555555");
        assert!(!machine.marker().take_word_of_thaw(), "of another boot");
    }

    #[test]
    fn the_empty_marker_of_the_c_agent_is_believed() {
        let machine = Machine::new();
        fs::write(machine.file(), "").unwrap();
        assert!(machine.marker().is_current());
        assert_eq!(machine.marker().devices(), []);
    }

    #[test]
    fn without_a_boot_id_a_marker_is_believed() {
        let machine = Machine::new();
        machine.boot("");
        machine.marker().set();
        assert!(machine.marker().is_current());
    }

    #[test]
    fn garbage_is_no_marker_of_this_boot() {
        let machine = Machine::new();
        fs::write(machine.file(), b"\xff\xfe garbage").unwrap();
        assert!(!machine.marker().is_current());
        machine.marker().set_for(&[(1, 2)]);
        assert_eq!(machine.marker().devices(), [(1, 2)]);
    }

    #[test]
    fn clearing_what_is_not_there_and_setting_twice_are_fine() {
        let machine = Machine::new();
        let marker = machine.marker();
        marker.clear();
        marker.set_for(&[(1, 2), (3, 4)]);
        marker.set_for(&[(5, 6)]);
        assert_eq!(marker.devices(), [(5, 6)]);
    }

    #[test]
    fn a_link_in_its_place_is_not_followed() {
        let machine = Machine::new();
        let victim = machine.dir.path().join("victim");
        fs::write(&victim, "keep").unwrap();
        std::os::unix::fs::symlink(&victim, machine.file()).unwrap();
        machine.marker().set();
        assert_eq!(fs::read_to_string(victim).unwrap(), "keep");
    }

    #[test]
    fn a_marker_that_cannot_be_looked_at_is_an_error() {
        let machine = Machine::new();
        let file = machine.dir.path().join("file");
        fs::write(&file, "").unwrap();
        let error = FrozenMarker::new(&file, &Root::new(machine.dir.path())).unwrap_err();
        assert_eq!(
            error,
            format!("unable to access state file at path {}/qga.state.isfrozen: Not a directory", file.display())
        );
    }

    #[test]
    fn a_change_that_was_stuck_does_not_undo_a_later_one() {
        let machine = Machine::new();
        let marker = machine.marker();
        let turn = marker.file.changing.lock().unwrap();
        let slow = Arc::clone(&marker.file);
        *marker.file.wanted.lock().unwrap() = Some("old\n".into());
        let stuck = thread::spawn(move || slow.apply());
        // What `clear` asks for while the first change has not had its turn.
        *marker.file.wanted.lock().unwrap() = None;
        drop(turn);
        stuck.join().unwrap().unwrap();
        marker.clear();
        assert!(!machine.file().exists());
    }
}

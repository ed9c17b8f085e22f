//! A user's `.ssh/authorized_keys`, in a directory that belongs to that user, who may be hostile.
//!
//! Everything here is to be called [as the user](super::as_user), so that nobody gets at anything through us that he
//! could not get at himself. What remains is to be neither fooled nor held up: each of the two names is opened by
//! itself, relative to the open directory above it and not through a symbolic link; what has been opened is judged by
//! its descriptor; a new content is a new file, complete before it gets the name.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use qga_proto::error::{Error, Result};
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, Stat, XattrFlags, fchmod, fchown, fgetxattr, fsetxattr, fstat, fsync,
    mkdirat, openat, renameat, unlinkat,
};
use rustix::io::Errno;
use rustix::process::{Gid, Uid};
use rustix::rand::{GetRandomFlags, getrandom};

use super::errno::{Context, ErrnoText};
use super::passwd::User;
use super::root::Root;

/// Most bytes of a file that is read or written. A thousand keys are a tenth of that.
pub const SIZE_MAX: usize = 1 << 20;

const DIRECTORY: &str = ".ssh";
const FILE: &str = "authorized_keys";

/// Permission bits of what we create.
const DIRECTORY_MODE: Mode = Mode::RWXU;
const FILE_MODE: Mode = Mode::RUSR.union(Mode::WUSR);

const LABEL: &str = "security.selinux";

/// Where a user's keys are.
#[derive(Debug, Clone)]
pub struct Place {
    uid: u32,
    gid: u32,
    /// Where the home directory is found.
    home: PathBuf,
    /// The directory and the file as the user knows them, for messages.
    shown_directory: String,
    shown: String,
}

/// A user's `.ssh`, open.
#[derive(Debug)]
pub struct KeyDirectory<'a> {
    place: &'a Place,
    fd: OwnedFd,
}

impl Place {
    /// The keys of this user. Nothing is opened yet.
    pub fn new(root: &Root, user: &User) -> Self {
        let directory = user.home.join(DIRECTORY);
        let shown = |path: &Path| path.to_string_lossy().into_owned();
        Place {
            uid: user.uid,
            gid: user.gid,
            home: root.path(&user.home),
            shown: shown(&directory.join(FILE)),
            shown_directory: shown(&directory),
        }
    }

    /// Opens the directory.
    ///
    /// # Errors
    ///
    /// `failed to read 'PATH': ...`. That it is not there is none: then the file is not there either.
    pub fn open(&self) -> Result<Option<KeyDirectory<'_>>> {
        let opened = self.open_home().and_then(|home| open_directory(&home));
        match opened {
            Ok(fd) => self.checked(fd).map(Some),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(self.cannot_open(errno)),
        }
    }

    /// Opens the directory, and creates it when there is none.
    ///
    /// # Errors
    ///
    /// `failed to create directory 'PATH': ...`, also when something else has its name.
    pub fn open_or_create(&self) -> Result<KeyDirectory<'_>> {
        let what = || format!("failed to create directory '{}'", self.shown_directory);
        let home = self.open_home().context(what)?;
        match open_directory(&home) {
            Ok(fd) => return self.checked(fd),
            Err(Errno::NOENT) => {}
            // A symbolic link, a file.
            Err(Errno::NOTDIR | Errno::LOOP) => return Err(Errno::EXIST).context(what),
            Err(errno) => return Err(errno).context(what),
        }
        match mkdirat(&home, DIRECTORY, DIRECTORY_MODE) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno).context(what),
        }
        // Whatever has the name by now is judged like one that was there before.
        let fd = open_directory(&home).context(what)?;
        self.checked(fd)
    }

    /// The error of a file that is not there.
    pub fn missing(&self) -> Error {
        self.cannot_open(Errno::NOENT)
    }

    /// The way to the home directory is the administrator's; links in it (`/home` on another disk) are followed.
    fn open_home(&self) -> rustix::io::Result<OwnedFd> {
        openat(CWD, &self.home, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
    }

    fn checked(&self, fd: OwnedFd) -> Result<KeyDirectory<'_>> {
        let stat = fstat(&fd).map_err(|errno| self.cannot_open(errno))?;
        if !self.may_own(&stat) {
            return Err(self.unfit(&format!("'{}' belongs to another user", self.shown_directory)));
        }
        // Where others may write, sshd does not take the keys. (Only its owner can change this, and if that is root
        // and not the user, it stays.)
        let mode = Mode::from_raw_mode(stat.st_mode);
        if mode.intersects(Mode::WGRP | Mode::WOTH) {
            let changed = fchmod(&fd, mode - Mode::WGRP - Mode::WOTH);
            log::warn!(
                "others could write to '{}': {}",
                self.shown_directory,
                changed.map_or_else(|errno| errno.errno_text(), |()| "no longer".to_owned())
            );
        }
        Ok(KeyDirectory { place: self, fd })
    }

    /// As sshd has it: what belongs to root is as good as one's own.
    fn may_own(&self, stat: &Stat) -> bool {
        stat.st_uid == self.uid || stat.st_uid == 0
    }

    fn unfit(&self, why: &str) -> Error {
        Error::generic(format!("failed to read '{}': {why}", self.shown))
    }

    fn cannot_open(&self, errno: Errno) -> Error {
        self.unfit(&format!("Failed to open file \u{201C}{}\u{201D}: {}", self.shown, errno.errno_text()))
    }

    fn cannot_read(&self, errno: &impl ErrnoText) -> Error {
        self.unfit(&format!("Error reading file \u{201C}{}\u{201D}: {}", self.shown, errno.errno_text()))
    }
}

impl KeyDirectory<'_> {
    /// What the file holds; none when there is no file.
    ///
    /// # Errors
    ///
    /// `failed to read 'PATH': ...`: also when it is anything but a plain file of the user's with this one name and of
    /// a sensible size.
    pub fn read(&self) -> Result<Option<Vec<u8>>> {
        let place = self.place;
        let fd = match self.open_file() {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(place.cannot_open(errno)),
        };
        let stat = fstat(&fd).map_err(|errno| place.cannot_read(&errno))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {}
            FileType::Directory => return Err(place.cannot_read(&Errno::ISDIR)),
            _ => return Err(place.unfit("it is not a regular file")),
        }
        if !place.may_own(&stat) {
            return Err(place.unfit("it belongs to another user"));
        }
        if stat.st_nlink > 1 {
            return Err(place.unfit("it has another name (a hard link)"));
        }
        let mut content = Vec::new();
        let limit = SIZE_MAX as u64 + 1;
        File::from(fd).take(limit).read_to_end(&mut content).map_err(|error| place.cannot_read(&error))?;
        if content.len() > SIZE_MAX {
            return Err(place.unfit(&format!("it has more than {SIZE_MAX} bytes")));
        }
        Ok(Some(content))
    }

    /// Gives the file a new content, mode 0600, owner and group the user's. Whoever reads it meanwhile sees the old or
    /// the new one whole. Whatever had the name before, a link say, is replaced and not followed.
    ///
    /// # Errors
    ///
    /// `failed to write to 'PATH': ...`, `failed to set ... of 'PATH': <errno>`; the old content is then still there.
    pub fn replace(&self, content: &[u8]) -> Result<()> {
        if content.len() > SIZE_MAX {
            return Err(Errno::FBIG).context(|| self.cannot_write());
        }
        let (name, fd) = self.create()?;
        let file = File::from(fd);
        let done = self
            .fill(&file, content)
            .and_then(|()| renameat(&self.fd, &name, &self.fd, FILE).context(|| self.cannot_write()));
        if done.is_err() {
            let _ = unlinkat(&self.fd, &name, AtFlags::empty());
        } else if let Err(errno) = fsync(&self.fd) {
            log::debug!("'{}' is not synchronised: {}", self.place.shown_directory, errno.errno_text());
        }
        done
    }

    /// Never waits for the other end of a FIFO, and never makes a terminal our own.
    fn open_file(&self) -> rustix::io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        openat(&self.fd, FILE, flags, Mode::empty())
    }

    /// A new file next to the real one.
    fn create(&self) -> Result<(String, OwnedFd)> {
        let mut failed = Errno::EXIST;
        for _ in 0..16 {
            let name = format!("{FILE}.{}", random_letters().context(|| self.cannot_write())?);
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            match openat(&self.fd, &name, flags, FILE_MODE) {
                Ok(fd) => return Ok((name, fd)),
                Err(errno) => failed = errno,
            }
            if failed != Errno::EXIST {
                let shown = format!("{}/{name}", self.place.shown_directory);
                return Err(failed)
                    .context(|| format!("{}: Failed to create file \u{201C}{shown}\u{201D}", self.cannot_write()));
            }
        }
        Err(failed).context(|| self.cannot_write())
    }

    fn fill(&self, mut file: &File, content: &[u8]) -> Result<()> {
        let place = self.place;
        let stat = fstat(file).context(|| self.cannot_write())?;
        if (stat.st_uid, stat.st_gid) != (place.uid, place.gid) {
            // The directory hands its group on, or its file system knows no owners.
            fchown(file, Some(Uid::from_raw(place.uid)), Some(Gid::from_raw(place.gid)))
                .context(|| format!("failed to set ownership of '{}'", place.shown))?;
        }
        // The umask may have taken something away.
        fchmod(file, FILE_MODE).context(|| format!("failed to set permissions of '{}'", place.shown))?;
        self.copy_label(file);
        file.write_all(content).context(|| self.cannot_write())?;
        fsync(file).context(|| self.cannot_write())
    }

    /// The file keeps its SELinux label; a new one has what the directory hands on.
    fn copy_label(&self, file: &File) {
        let Ok(old) = self.open_file() else { return };
        let mut label = [0; 256];
        if let Ok(length) = fgetxattr(&old, LABEL, &mut label) {
            // Without SELinux, and where the policy does not want it, there is nothing to keep.
            let _ = fsetxattr(file, LABEL, label.get(..length).unwrap_or_default(), XattrFlags::empty());
        }
    }

    fn cannot_write(&self) -> String {
        format!("failed to write to '{}'", self.place.shown)
    }
}

/// `O_NOFOLLOW` says all that is to be said of a name without a slash: there is no way out of the directory above.
fn open_directory(home: &OwnedFd) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(home, DIRECTORY, flags, Mode::empty())
}

fn random_letters() -> rustix::io::Result<String> {
    let mut bytes = [0_u8; 6];
    getrandom(&mut bytes, GetRandomFlags::empty())?;
    Ok(bytes.iter().map(|byte| char::from(b'a' + byte % 26)).collect())
}

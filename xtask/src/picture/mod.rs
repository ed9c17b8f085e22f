//! `cargo xtask picture`: pictures of `qga` at work in a throw-away machine, for the README.

mod svg;
mod terminal;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::Duration;

use vm_tests::agent::Agent;
use vm_tests::{Image, Machine, Spec};
use vt100::Screen;

use self::terminal::Size;
use crate::process::{self, Result, cargo};
use crate::{dist, packages, target, workspace};

/// What the machine goes by: the name of its socket where `qga` runs.
const NAME: &str = "web1.sock";

/// Most bytes of a picture.
const BYTES_MAX: usize = 100 << 10;

/// One picture.
struct Scene {
    /// The command of `qga`, and the name of the file.
    name: &'static str,
    /// What follows `qga`, as one would type it for a shell.
    args: &'static str,
    size: Size,
    /// Which of the screens is the picture.
    moment: Moment,
}

/// When a picture is taken.
enum Moment {
    /// When the program has ended.
    End,
    /// At the first screen that is so; otherwise at the end.
    When(fn(&Screen) -> bool),
    /// After so long; the program is ended then.
    After(Duration),
}

const SCENES: &[Scene] = &[
    Scene {
        name: "exec",
        args: "-t web1.sock exec -- sh -c 'uname -sr; for i in 1 2 3; do echo tick $i; sleep 1; done; exit 7'; echo $?",
        size: Size { rows: 12, columns: 110 },
        moment: Moment::End,
    },
    Scene {
        name: "cp",
        args: "-t web1.sock cp image.raw :/mnt/xfs/",
        size: Size { rows: 6, columns: 110 },
        moment: Moment::When(is_half_done),
    },
    Scene {
        name: "top",
        args: "-t web1.sock top -i 1",
        size: Size { rows: 24, columns: 110 },
        moment: Moment::After(Duration::from_secs(25)),
    },
];

/// Boots a machine and takes a picture of each command there is.
pub(crate) fn run() -> Result {
    packages::install(vm_tests::PACKAGES)?;
    let agent = Agent { path: dist::static_build(&["qemu-ga"])?.join("qemu-ga"), is_c: false };
    // A copy is a matter of speed, and the picture should show that of the program as it is shipped.
    process::run(&mut cargo(&["build", "--release", "--package", "qga"]))?;
    let qga = target().join("release/qga");
    let image = Rc::new(Image::with_agent(agent));
    let mut machine = Machine::boot(&image, Spec { disks: true, ..Spec::default() });
    drop(machine.agent()); // waits until it answers

    let place = tempfile::tempdir().map_err(|error| format!("no temporary directory: {error}"))?;
    prepare(place.path(), &machine.agent_socket())?;
    // Something to look at: a processor that is busy now and then, and a disk that is written to.
    let load = "(while :; do dd if=/dev/zero of=/mnt/ext4/x bs=64k count=40 conv=fsync; i=0; \
                while [ $i -lt 20000 ]; do i=$((i+1)); done; sleep 1; done) >/dev/null 2>&1 &";
    machine.shell.run_within(load, Duration::from_secs(60));

    let pictures = workspace().join("docs/pictures");
    fs::create_dir_all(&pictures).map_err(|error| format!("{}: {error}", pictures.display()))?;
    for scene in SCENES {
        if !is_there(&qga, scene.name) {
            println!("SKIPPED: there is no 'qga {}'", scene.name);
            continue;
        }
        let svg = picture(scene, &qga, place.path())?;
        check(&svg, place.path())?;
        let file = pictures.join(format!("{}.svg", scene.name));
        fs::write(&file, &svg).map_err(|error| format!("{}: {error}", file.display()))?;
        println!("{:>9} bytes  {}", svg.len(), file.display());
    }
    Ok(())
}

/// Puts the socket of the machine, under its short name, and something to copy into the directory.
fn prepare(place: &Path, socket: &Path) -> Result {
    symlink(socket, place.join(NAME)).map_err(|error| format!("{NAME}: {error}"))?;
    // Not one that compresses, or has holes.
    let script = "head -c 64M /dev/urandom >image.raw";
    process::run(process::program("sh", ["-c", script]).current_dir(place))
}

/// Whether `qga` has this command.
fn is_there(qga: &Path, name: &str) -> bool {
    let mut command = Command::new(qga);
    command.args([name, "--help"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Runs a scene in a terminal and draws the screen of its moment.
fn picture(scene: &Scene, qga: &Path, place: &Path) -> Result<String> {
    let line = format!("qga {}", scene.args);
    println!("$ {line}");
    let directory: PathBuf = qga.parent().unwrap_or(Path::new("/")).into();
    let shown = format!("\x1b[1m$\x1b[0m {line}\r\n");
    let screens = terminal::record(
        &line,
        &shown,
        &directory,
        place,
        scene.size,
        match scene.moment {
            Moment::After(time) => time,
            Moment::End | Moment::When(_) => Duration::from_secs(300),
        },
    )?;
    let screen = match scene.moment {
        Moment::When(is_so) => screens.iter().find(|screen| is_so(screen)).or(screens.last()),
        Moment::End => screens.last(),
        // What a program shows that takes the whole screen is gone with its end.
        Moment::After(_) => screens.iter().rev().find(|screen| screen.alternate_screen()),
    };
    screen.map(|screen| svg::draw(screen, &line)).ok_or_else(|| format!("{line}: it shows nothing"))
}

/// Whether a progress bar has got about half way.
fn is_half_done(screen: &Screen) -> bool {
    let text = screen.contents();
    let numbers = text.match_indices('%').filter_map(|(at, _)| {
        let before = text[..at].trim_end();
        let start = before.rfind(|c: char| !(c.is_ascii_digit() || c == '.')).map_or(0, |at| at + 1);
        before.get(start..)?.parse::<f64>().ok()
    });
    numbers.into_iter().any(|percent| (40.0..90.0).contains(&percent))
}

/// A picture is small and tells nothing of the machine it was made on.
fn check(svg: &str, place: &Path) -> Result {
    if svg.len() > BYTES_MAX {
        return Err(format!("a picture of {} bytes is too large", svg.len()));
    }
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let home = std::env::var("HOME").unwrap_or_default();
    let (place, tree) = (place.display().to_string(), workspace().display().to_string());
    for secret in [host.trim(), &home, &place, &tree] {
        // The root directory, and a name as common as that of every container, give nothing away.
        if secret.len() > 4 && secret != "localhost" && svg.contains(secret) {
            return Err(format!("the picture shows '{secret}'"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_done_is_found_in_a_progress_bar() {
        let screen = |text: &str| {
            let mut terminal = vt100::Parser::default();
            terminal.process(text.as_bytes());
            terminal.screen().clone()
        };
        for (text, is_so) in [("[##  ] 45 % 3 s", true), ("55.5%", true), ("5%", false), ("100 %", false), ("%", false)]
        {
            assert_eq!(is_half_done(&screen(text)), is_so, "{text}");
        }
    }

    #[test]
    fn a_picture_that_tells_where_it_was_made_is_refused() {
        let place = Path::new("/tmp/somewhere");
        assert_eq!(check("<svg>web1</svg>", place), Ok(()));
        assert!(check("<svg>/tmp/somewhere/web1.sock</svg>", place).is_err());
        assert!(check(&"x".repeat(BYTES_MAX + 1), place).is_err());
    }
}

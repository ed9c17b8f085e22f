//! What lies on what, and what is mounted how often: each file system is frozen once, the inner one first.

use std::fs;
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use qemu_ga::platform::linux::root::Root;
use qemu_ga::state::freeze::Freeze;

use crate::stage::{Stage, make, on_stage, run};
use crate::{freeze_in_time, marker, order, strings, system};

/// The stage's mount table, in which the options of overlays name directories as the guest does, like all else.
fn root(stage: &mut Stage) -> Root {
    let prefix = stage.path("").to_str().unwrap().trim_end_matches('/').to_owned();
    stage.root_with(|table| table.replace(&format!("={prefix}/"), "=/"))
}

fn mkdir(stage: &Stage, points: &[&str]) {
    for point in points {
        fs::create_dir_all(stage.path(point)).unwrap();
    }
}

/// Mounts an overlay at `point`, of the directories `lower`, `upper` and `work` of `on`.
fn overlay(stage: &mut Stage, on: &str, point: &str) {
    let dir = |name: &str| stage.path(&format!("{on}/{name}")).to_str().unwrap().to_owned();
    let options = format!("lowerdir={},upperdir={},workdir={}", dir("lower"), dir("upper"), dir("work"));
    stage.attach(&["-t", "overlay", "-o", &options, "none"], point);
}

/// All that a freeze has to do for these: frozen in this order, all of them, by each of the mount points, and thawed.
fn check(stage: &mut Stage, root: &Root, expected: &[&str], points: &[&str], dirty: &[&str]) {
    let marker = marker(stage);
    let system = system(root, None, &marker);
    assert_eq!(order(&system), expected);
    let freeze = Freeze::default();
    let count = i64::try_from(expected.len()).unwrap();
    for _ in 0..3 {
        for file in dirty {
            // Dirty pages have to go through all that lies below.
            fs::write(stage.path(file), vec![7; 2 << 20]).unwrap();
        }
        assert_eq!(freeze_in_time(&freeze, &system, stage), count);
        assert_eq!(freeze.thaw(&system), Ok(count));
        assert!(stage.frozen().iter().all(|frozen| !frozen));
    }
    for point in points {
        assert_eq!(freeze.freeze(&system, Some(&strings(&[point]))), Ok(1), "{point}");
        assert_eq!(freeze.thaw(&system), Ok(1), "{point}");
    }
}

#[test]
fn an_overlay_is_not_frozen_itself_but_what_it_writes_to_is() {
    on_stage("stacks::an_overlay_is_not_frozen_itself_but_what_it_writes_to_is", |stage| {
        stage.new_mount("a.ext4", "/mnt/a");
        mkdir(stage, &["/mnt/a/lower", "/mnt/a/upper", "/mnt/a/work"]);
        overlay(stage, "/mnt/a", "/mnt/merged");
        let root = root(stage);
        check(stage, &root, &["/mnt/a"], &["/mnt/a"], &["/mnt/merged/dirty"]);

        let marker = marker(stage);
        let system = system(&root, None, &marker);
        let freeze = Freeze::default();
        assert_eq!(freeze.freeze(&system, Some(&strings(&["/mnt/merged"]))), Ok(0), "it has no disk of its own");
        assert_eq!(freeze.freeze(&system, None), Ok(1));
        let (file, written) = (stage.path("/mnt/merged/late"), AtomicBool::new(false));
        thread::scope(|scope| {
            scope.spawn(|| {
                fs::write(&file, "late").unwrap();
                written.store(true, Ordering::SeqCst);
            });
            thread::sleep(Duration::from_millis(500));
            let early = written.load(Ordering::SeqCst);
            assert_eq!(freeze.thaw(&system), Ok(1));
            assert!(!early, "written through the overlay while frozen");
        });
        assert_eq!(fs::read(&file).unwrap(), b"late");
    });
}

#[test]
fn an_image_on_an_overlay_is_frozen_before_the_file_system_below_the_overlay() {
    on_stage("stacks::an_image_on_an_overlay_is_frozen_before_the_file_system_below_the_overlay", |stage| {
        stage.new_mount("a.xfs", "/mnt/first");
        mkdir(stage, &["/mnt/first/lower", "/mnt/first/upper", "/mnt/first/work"]);
        stage.bind("/mnt/first", "/mnt/a");
        overlay(stage, "/mnt/a", "/mnt/merged");
        let image = stage.path("/mnt/merged/inner.ext4");
        make(&image);
        stage.mount(&image, "/mnt/inner", "");
        // The file system below is mounted anew at its place, so that it comes last in the table.
        stage.bind("/mnt/first", "/mnt/late");
        stage.detach("/mnt/a");
        run("mount", &["--move", stage.path("/mnt/late").to_str().unwrap(), stage.path("/mnt/a").to_str().unwrap()]);
        stage.detach("/mnt/first");
        let root = root(stage);
        check(stage, &root, &["/mnt/inner", "/mnt/a"], &["/mnt/inner", "/mnt/a"], &["/mnt/inner/dirty"]);
    });
}

#[test]
fn subvolumes_of_a_btrfs_are_one_file_system_each_mount_point_of_which_names_it() {
    on_stage("stacks::subvolumes_of_a_btrfs_are_one_file_system_each_mount_point_of_which_names_it", |stage| {
        let image = stage.image("c.btrfs");
        stage.mount(&image, "/mnt/top", "");
        for name in ["one", "two"] {
            run("btrfs", &["subvolume", "create", stage.path(&format!("/mnt/top/{name}")).to_str().unwrap()]);
        }
        stage.mount(&image, "/mnt/one", "subvol=one");
        stage.mount(&image, "/mnt/two", "subvol=two");
        mkdir(stage, &["/mnt/two/dir"]);
        stage.bind("/mnt/two/dir", "/mnt/bound");
        // As on most systems the top is not mounted at all.
        stage.detach("/mnt/top");
        let root = root(stage);
        let number = |point: &str| rustix::fs::stat(stage.path(point)).unwrap().st_dev;
        assert_ne!(number("/mnt/one"), number("/mnt/two"), "programs see two");
        let dirty = ["/mnt/one/dirty", "/mnt/bound/dirty"];
        check(stage, &root, &["/mnt/one"], &["/mnt/one", "/mnt/two", "/mnt/bound"], &dirty);
    });
}

#[test]
fn an_image_that_is_mounted_twice_is_frozen_once_and_a_second_device_of_it_as_well() {
    on_stage("stacks::an_image_that_is_mounted_twice_is_frozen_once_and_a_second_device_of_it_as_well", |stage| {
        // As control panels for web servers have it: one image for /tmp and /var/tmp.
        stage.new_mount("ground.xfs", "/mnt/ground");
        let image = stage.path("/mnt/ground/tmp.ext4");
        make(&image);
        stage.mount(&image, "/mnt/tmp", "");
        stage.mount(&image, "/mnt/twice", "");
        stage.bind("/mnt/tmp", "/mnt/var/tmp");
        let points = ["/mnt/tmp", "/mnt/twice", "/mnt/var/tmp", "/mnt/ground"];
        let root_once = root(stage);
        check(stage, &root_once, &["/mnt/tmp", "/mnt/ground"], &points, &["/mnt/twice/dirty"]);

        // The same image on a device of its own is another file system for the kernel.
        let device = run("losetup", &["--read-only", "--find", "--show", image.to_str().unwrap()]);
        stage.attach(&["-o", "ro,noload", device.trim()], "/mnt/again");
        // It goes when it is unmounted.
        run("losetup", &["--detach", device.trim()]);
        let root = root(stage);
        let points = ["/mnt/again", "/mnt/tmp", "/mnt/twice", "/mnt/var/tmp", "/mnt/ground"];
        check(stage, &root, &["/mnt/again", "/mnt/tmp", "/mnt/ground"], &points, &["/mnt/tmp/dirty"]);
    });
}

#[test]
fn all_of_it_at_once_is_frozen_again_and_again_while_programs_write() {
    on_stage("stacks::all_of_it_at_once_is_frozen_again_and_again_while_programs_write", |stage| {
        stage.new_mount("ground.xfs", "/mnt/ground");
        let image = stage.path("/mnt/ground/tmp.ext4");
        make(&image);
        stage.mount(&image, "/mnt/tmp", "");
        stage.bind("/mnt/tmp", "/mnt/var/tmp");
        mkdir(stage, &["/mnt/ground/lower", "/mnt/ground/upper", "/mnt/ground/work"]);
        overlay(stage, "/mnt/ground", "/mnt/merged");
        let btrfs = stage.image("c.btrfs");
        stage.mount(&btrfs, "/mnt/c", "");
        run("btrfs", &["subvolume", "create", stage.path("/mnt/c/one").to_str().unwrap()]);
        stage.mount(&btrfs, "/mnt/one", "subvol=one");
        stage.new_mount("under.ext4", "/mnt/over/under");
        stage.bind("/mnt/over/under", "/mnt/reached");
        stage.new_mount("over.ext4", "/mnt/over");
        for i in 0..200 {
            let point = stage.path(&format!("/mnt/many{i}"));
            fs::create_dir(&point).unwrap();
            run("mount", &["--bind", stage.path("/mnt/ground").to_str().unwrap(), point.to_str().unwrap()]);
        }
        let root = root(stage);
        let marker = marker(stage);
        let system = system(&root, None, &marker);
        let freeze = Freeze::default();
        let stop = AtomicBool::new(false);
        let dirs = ["/mnt/ground", "/mnt/tmp", "/mnt/merged", "/mnt/c", "/mnt/one", "/mnt/reached", "/mnt/over"];
        thread::scope(|scope| {
            for dir in dirs {
                let (stage, stop) = (&*stage, &stop);
                scope.spawn(move || {
                    let (file, other) = (stage.path(dir).join("busy"), stage.path(dir).join("moved"));
                    while !stop.load(Ordering::SeqCst) {
                        fs::write(&file, vec![7; 1 << 18]).unwrap();
                        fs::rename(&file, &other).unwrap();
                        thread::sleep(Duration::from_millis(2));
                    }
                });
            }
            let mut longest = Duration::ZERO;
            for _ in 0..10 {
                let since = Instant::now();
                let count = freeze_in_time(&freeze, &system, stage);
                longest = longest.max(since.elapsed());
                let thawed = freeze.thaw(&system);
                if count != 5 || thawed != Ok(5) {
                    stop.store(true, Ordering::SeqCst);
                    panic!("{count} {thawed:?}");
                }
            }
            stop.store(true, Ordering::SeqCst);
            println!("the longest freeze took {longest:?}");
        });
        assert!(stage.frozen().iter().all(|frozen| !frozen));
    });
}

#[test]
fn a_socket_that_is_mounted_before_all_else_does_not_get_in_the_way_and_names_its_file_system() {
    on_stage(
        "stacks::a_socket_that_is_mounted_before_all_else_does_not_get_in_the_way_and_names_its_file_system",
        |stage| {
            stage.new_mount("a.ext4", "/mnt/a");
            // As containers have the socket of their daemon.
            let _socket = UnixListener::bind(stage.path("/mnt/a/socket")).unwrap();
            stage.bind("/mnt/a/socket", "/mnt/socket");
            stage.bind("/mnt/a", "/mnt/z");
            stage.detach("/mnt/a");
            let root = root(stage);
            check(stage, &root, &["/mnt/z"], &["/mnt/socket", "/mnt/z"], &["/mnt/z/dirty"]);
        },
    );
}

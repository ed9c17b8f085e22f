use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use super::*;

/// A `/sys` made of a few lines: `loop0 7:0 backing /img`, `sda1 8:1 part-of sda`, `dm-0 253:0 slaves sda1 loop0`.
struct Sys(tempfile::TempDir);

impl Sys {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("sys/dev/block")).unwrap();
        Sys(dir)
    }

    fn root(&self) -> Root {
        Root::new(self.0.path())
    }

    fn disk(&self, name: &str, number: &str) -> PathBuf {
        self.device(&format!("sys/devices/{name}"), number)
    }

    fn partition(&self, disk: &str, name: &str, number: &str) {
        let dir = self.device(&format!("sys/devices/{disk}/{name}"), number);
        fs::write(dir.join("partition"), "1\n").unwrap();
    }

    fn looped(&self, name: &str, number: &str, file: &str) {
        let dir = self.disk(name, number);
        fs::create_dir(dir.join("loop")).unwrap();
        fs::write(dir.join("loop/backing_file"), format!("{file}\n")).unwrap();
        fs::write(dir.join("uevent"), format!("MAJOR=7\nDEVNAME={name}\n")).unwrap();
    }

    fn stacked(&self, name: &str, number: &str, slaves: &[&str]) {
        let dir = self.disk(name, number);
        fs::create_dir(dir.join("slaves")).unwrap();
        for slave in slaves {
            let target = self.0.path().join("sys/dev/block").join(slave);
            symlink(fs::canonicalize(target).unwrap(), dir.join("slaves").join(slave.replace(':', "-"))).unwrap();
        }
    }

    fn device(&self, dir: &str, number: &str) -> PathBuf {
        let dir = self.0.path().join(dir);
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("dev"), format!("{number}\n")).unwrap();
        symlink(&dir, self.0.path().join("sys/dev/block").join(number)).unwrap();
        dir
    }

    fn order(&self, mounts: &str) -> String {
        let table = Table::parse(mounts.as_bytes());
        let systems = table.file_systems(&self.root());
        let order = inner_first(&self.root(), &table, &systems);
        assert_eq!(order.iter().collect::<HashSet<_>>().len(), systems.len(), "each once");
        let points = order.iter().map(|i| systems[*i].point().to_str().unwrap());
        points.collect::<Vec<_>>().join(" ")
    }
}

#[test]
fn where_nothing_lies_on_anything_the_last_mount_comes_first() {
    let order =
        Sys::new().order("1 0 8:1 / / rw - ext4 x rw\n2 1 8:2 / /a rw - xfs x rw\n3 1 8:3 / /b rw - ext4 x rw\n");
    assert_eq!(order, "/b /a /");
}

#[test]
fn an_image_comes_before_the_file_system_that_holds_it_though_that_is_mounted_later() {
    let sys = Sys::new();
    sys.disk("sda", "8:0");
    sys.looped("loop0", "7:0", "/y/b.img");
    let order =
        sys.order("1 0 8:1 / / rw - ext4 x rw\n2 1 7:0 / /b rw - ext4 /dev/loop0 rw\n3 1 8:0 / /y rw - ext4 x rw\n");
    assert_eq!(order, "/b /y /");
}

#[test]
fn images_in_images_are_followed_to_the_ground() {
    let sys = Sys::new();
    sys.looped("loop0", "7:0", "/outer/inner.img");
    sys.looped("loop1", "7:1", "/inner/innermost.img");
    sys.looped("loop2", "7:2", "/ground/outer.img (deleted)");
    let order = sys.order(
        "1 0 8:1 / / rw - ext4 x rw
2 1 7:1 / /innermost rw - ext4 x rw
3 1 7:0 / /inner rw - ext4 x rw
4 1 7:2 / /outer rw - ext4 x rw
5 1 8:2 / /ground rw - ext4 x rw
",
    );
    assert_eq!(order, "/innermost /inner /outer /ground /");
}

#[test]
fn device_mapper_md_and_partitions_are_looked_through() {
    let sys = Sys::new();
    sys.looped("loop0", "7:0", "/ground/disk.img");
    sys.partition("loop0", "loop0p1", "259:0");
    sys.disk("sda", "8:0");
    sys.stacked("md0", "9:0", &["259:0", "8:0"]);
    sys.stacked("dm-0", "253:0", &["9:0"]);
    let order =
        sys.order("1 0 8:1 / / rw - ext4 x rw\n2 1 253:0 / /lv rw - xfs x rw\n3 1 8:2 / /ground rw - ext4 x rw\n");
    assert_eq!(order, "/lv /ground /");
}

#[test]
fn all_members_of_a_btrfs_count() {
    let sys = Sys::new();
    let member = sys.disk("sdb", "8:16");
    sys.looped("loop0", "7:0", "/ground/second.img");
    let devices = sys.0.path().join("sys/fs/btrfs/0f0e/devices");
    fs::create_dir_all(&devices).unwrap();
    symlink(member, devices.join("sdb")).unwrap();
    symlink(sys.0.path().join("sys/devices/loop0"), devices.join("loop0")).unwrap();
    let root = sys.root();
    let table = Table::parse(
        b"1 0 8:1 / / rw - ext4 x rw\n2 1 0:40 / /data rw - btrfs /dev/sdb rw\n3 1 8:2 / /ground rw - ext4 x rw\n",
    );
    let mut systems = table.file_systems(&root);
    systems[1].block = Device::parse(b"8:16");
    assert_eq!(inner_first(&root, &table, &systems), [1, 2, 0]);
}

#[test]
fn an_image_on_an_overlay_lies_on_the_overlays_layers() {
    let sys = Sys::new();
    sys.looped("loop0", "7:0", "/merged/x.img");
    let order = sys.order(
        "1 0 8:1 / / rw - ext4 x rw
2 1 7:0 / /image rw - ext4 x rw
3 1 0:50 / /merged rw - overlay overlay rw,lowerdir=/lower\\0401:/l2,upperdir=/up/per,workdir=/work
4 1 8:2 / /up rw - ext4 x rw
5 1 8:3 / /l2 rw - ext4 x rw
6 1 8:4 / /work rw - ext4 x rw
",
    );
    assert_eq!(order, "/work /image /l2 /up /");
}

#[test]
fn a_circle_ends_and_everything_is_still_listed_once() {
    let sys = Sys::new();
    sys.looped("loop0", "7:0", "/b/a.img");
    sys.looped("loop1", "7:1", "/a/b.img");
    sys.stacked("dm-0", "253:0", &[]);
    let slaves = sys.0.path().join("sys/devices/dm-0/slaves");
    symlink(sys.0.path().join("sys/devices/dm-0"), slaves.join("self")).unwrap();
    sys.looped("loop2", "7:2", "/c/on-itself.img");
    let order = sys.order(
        "1 0 253:0 / / rw - ext4 x rw\n2 1 7:0 / /a rw - ext4 x rw\n3 1 7:1 / /b rw - ext4 x rw\n4 1 7:2 / /c rw - ext4 x rw\n",
    );
    assert!(order.starts_with("/c ") && order.ends_with(" /"), "{order}");
}

#[test]
fn a_long_chain_needs_no_stack() {
    let sys = Sys::new();
    let mut mounts = String::from("1 0 8:1 / / rw - ext4 x rw\n");
    for i in 0..500 {
        sys.looped(&format!("loop{i}"), &format!("7:{i}"), &format!("/m{}/x.img", i + 1));
        mounts += &format!("{} 1 7:{i} / /m{i} rw - ext4 x rw\n", i + 2);
    }
    let order = sys.order(&mounts);
    assert!(order.starts_with("/m0 /m1 /m2 "), "{order}");
    assert!(order.ends_with(" /m499 /"), "{order}");
}

#[test]
fn a_hundred_thousand_bind_mounts_are_one_file_system_found_in_linear_time() {
    let sys = Sys::new();
    sys.disk("sda", "8:1");
    sys.looped("loop0", "7:0", "/bound99999/image");
    let mut mounts = String::from("1 0 8:1 / / rw - ext4 x rw\n");
    for i in 0..100_000 {
        mounts += &format!("{} 1 8:1 /dir{i} /bound{i} rw - ext4 x rw\n", i + 2);
    }
    mounts += "100002 1 7:0 / /inner rw - xfs x rw\n";
    let since = Instant::now();
    assert_eq!(sys.order(&mounts), "/inner /");
    // A second or two without optimization; with the square of the number it would be hours.
    assert!(since.elapsed() < Duration::from_secs(60), "{:?}", since.elapsed());
}

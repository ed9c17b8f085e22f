use super::*;

fn system(cpus: &[(&str, Option<&str>)]) -> (tempfile::TempDir, Root) {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().join("sys/devices/system/cpu");
    fs::create_dir_all(&base).unwrap();
    for (name, online) in cpus {
        fs::create_dir(base.join(name)).unwrap();
        if let Some(online) = online {
            fs::write(base.join(name).join("online"), online).unwrap();
        }
    }
    let root = Root::new(dir.path());
    (dir, root)
}

fn text<T: std::fmt::Debug>(result: Result<T>) -> String {
    result.unwrap_err().desc.into_owned()
}

#[test]
fn processors_are_listed_by_number() {
    let names = [("cpu10", Some("0\n")), ("cpu2", Some("1\n")), ("cpu0", None), ("cpu1", Some("x"))];
    let (_dir, root) = system(&names);
    let all: Vec<_> = all(&root).unwrap().iter().map(|cpu| (cpu.id, cpu.online, cpu.can_offline)).collect();
    assert_eq!(all, [(0, true, false), (1, true, true), (2, true, true), (10, false, true)]);
}

#[test]
fn what_only_starts_like_a_processor_is_none() {
    let names = ["cpufreq", "cpuidle", "cpu3x", "cpu", "cpu-1", "cpu+1", "cpu99999999999999999999", "online"];
    let (_dir, root) = system(&names.map(|name| (name, Some(""))));
    assert_eq!(all(&root).unwrap(), []);
}

#[test]
fn an_empty_directory_is_an_empty_list_and_none_is_an_error() {
    assert_eq!(all(&system(&[]).1).unwrap(), []);
    let dir = tempfile::tempdir().unwrap();
    let expected = "failed to list entries: /sys/devices/system/cpu: No such file or directory";
    assert_eq!(text(all(&Root::new(dir.path()))), expected);
}

#[test]
fn errors_name_the_file_as_the_c_agent_does() {
    let (dir, root) = system(&[("cpu1", Some("")), ("cpu2", None)]);
    let expected = "pread(\"/sys/devices/system/cpu/cpu1//online\"): unexpected EOF";
    assert_eq!(text(all(&root)), expected);
    assert_eq!(text(set(&root, 1, true)), expected);
    let cpu = dir.path().join("sys/devices/system/cpu");
    fs::remove_file(cpu.join("cpu1/online")).unwrap();
    fs::create_dir(cpu.join("cpu2/online")).unwrap();
    assert_eq!(text(all(&root)), "pread(\"/sys/devices/system/cpu/cpu2//online\"): Is a directory");
    assert_eq!(text(set(&root, 2, true)), "could not open /sys/devices/system/cpu/cpu2//online: Is a directory");
}

#[test]
fn nothing_is_written_where_nothing_has_to_change() {
    let (dir, root) = system(&[("cpu1", Some("1\n"))]);
    let file = dir.path().join("sys/devices/system/cpu/cpu1/online");
    let before = fs::metadata(&file).unwrap().modified().unwrap();
    set(&root, 1, true).unwrap();
    assert_eq!(fs::metadata(&file).unwrap().modified().unwrap(), before);
    set(&root, 1, false).unwrap();
    assert_eq!(fs::read(&file).unwrap(), b"0\n");
}

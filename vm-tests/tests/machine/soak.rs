//! Freezing over and over while much is written: nothing is lost, and nothing is left behind.
//!
//! `QGA_SOAK_ROUNDS` says how often (50 unless it is set), `QGA_SOAK_SEED` in which way (another one each time).

use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use qga_testkit::numbers::{self, Numbers};
use qga_testkit::{Host, wait};
use serde_json::{Value, json};
use vm_tests::Machine;
use vm_tests::disks::Disk;

use crate::Guest;
use crate::freeze::numbers as records;
use crate::guardian::restart;

const ROUNDS: u64 = 50;

/// One round of so many is one in which the agent is killed.
const KILLED_ONE_IN: u64 = 16;

/// The longest freeze of this agent; longer than a round takes when the host thaws.
const DEADLINE: Duration = Duration::from_secs(10);

/// Anything in the kernel that hangs longer than this is reported.
const HUNG: u64 = 30;

/// What the agent may hold more in the end than after the first rounds.
const GROWTH_MAX: u64 = 1 << 20;

/// For the guest to get on, on a host that has much else to do.
const LONG: Duration = Duration::from_secs(120);

/// A third file system lies in a file on the first.
const POINTS: [&str; 3] = ["/mnt/ext4", "/mnt/xfs", "/mnt/other"];

/// On each file system one writer appends numbered records, and forces them to the disk now and then; another makes,
/// renames and removes files.
///
/// (What each round asks of the shell is a function there: a long line takes its time.)
const LOAD: &str = "
    sizes() { stat -c %s /mnt/ext4/records /mnt/xfs/records /mnt/other/records; }
    beyond() {
        until set -- $1 $2 $3 $(sizes); [ $4 -gt $1 ] && [ $5 -gt $2 ] && [ $6 -gt $3 ]; do usleep 20000; done
    }
    mkdir -p /run/soak; touch /run/soak/go
    dd if=/dev/zero of=/mnt/ext4/loop.img bs=1M count=0 seek=24 2>/dev/null
    /usr/sbin/mke2fs -q -F -t ext4 /mnt/ext4/loop.img
    modprobe loop; mount -o loop /mnt/ext4/loop.img /mnt/other
    append() {
        i=0
        while [ -e /run/soak/go ]; do
            echo $i >>/mnt/$1/records || break
            i=$((i + 1))
            [ $((i % 16)) -gt 0 ] || { sync /mnt/$1/records && usleep 50000; } || break
        done
        echo $i >/run/soak/written-$1
    }
    change() {
        mkdir /mnt/ext4/many /mnt/xfs/many; i=0
        while [ -e /run/soak/go ]; do
            for name in ext4 xfs; do
                cd /mnt/$name/many && : >new && mv new $i && rm -f ./$((i - 20)) || return
            done
            i=$((i + 1)); usleep 100000
        done
        cd /; rm -r /mnt/ext4/many /mnt/xfs/many
    }
    change >/run/soak/output 2>&1 & pids=$!
    for name in ext4 xfs other; do
        append $name >/run/soak/output-$name 2>&1 & pids=\"$pids $!\"
    done
    dmesg -c >/dev/null
    if [ -e /proc/sys/kernel/hung_task_timeout_secs ]; then
        echo -1 >/proc/sys/kernel/hung_task_warnings
        echo HUNG >/proc/sys/kernel/hung_task_timeout_secs
    fi";

/// Ends the writers.
const END: &str = "
    rm /run/soak/go
    for pid in $pids; do while [ -d /proc/$pid ]; do usleep 50000; done; done
    sync; umount /mnt/other; umount /mnt/xfs; mount -t xfs /dev/sda /mnt/xfs
    cat /run/soak/output*
    [ ! -e /proc/sys/kernel/hung_task_timeout_secs ] || echo 120 >/proc/sys/kernel/hung_task_timeout_secs";

/// What the kernel says of what hangs or breaks.
const TROUBLE: &str =
    "dmesg | grep -E 'blocked for more than|EXT4-fs (error|warning)|XFS.*(rror|orrupt)|I/O error|BUG:|Oops'";

/// The bytes of each file of records, in the order of [`POINTS`].
type Sizes = [u64; 3];

/// Those after a pause, and those before it.
fn sizes_around(machine: &mut Machine, pause: Duration) -> (Sizes, Sizes) {
    let text = machine.shell.run_within(&format!("sizes; usleep {}; sizes", pause.as_micros()), LONG);
    let numbers: Vec<u64> = text.split_whitespace().map(|word| word.parse().unwrap()).collect();
    match numbers[..] {
        [a, b, c, d, e, f] => ([d, e, f], [a, b, c]),
        _ => panic!("six sizes: {text}"),
    }
}

/// Waits until each writer has gone on.
fn wait_written(machine: &mut Machine, [ext4, xfs, other]: Sizes) {
    machine.shell.run_within(&format!("beyond {ext4} {xfs} {other}"), LONG);
}

fn start_load(machine: &mut Machine) {
    machine.shell.run_within(&LOAD.replace("HUNG", &HUNG.to_string()), LONG);
    let begun = "[ -s /mnt/ext4/records ] && [ -s /mnt/xfs/records ] && [ -s /mnt/other/records ]";
    wait::until("three writers", LONG, || machine.shell.succeeds(begun).then_some(()));
}

/// Ends the load, and looks for every record in the guest and on the disk.
fn end_load(machine: &mut Machine) {
    let complaints = machine.shell.run_within(END, LONG);
    assert_eq!(complaints, "", "a writer failed");
    let trouble = machine.shell.try_run(TROUBLE, LONG).unwrap();
    assert_ne!(trouble.status, 0, "{}", trouble.text);

    let mut written = |name: &str| machine.shell.number(&format!("cat /run/soak/written-{name}"));
    let (ext4, xfs, other) = (written("ext4"), written("xfs"), written("other"));
    println!("     {ext4} records on ext4, {xfs} on xfs, {other} on ext4 in a file on ext4");
    // This one has been mounted anew.
    let script = "awk '$0 != NR - 1 { print; exit 1 } END { print NR }' /mnt/xfs/records";
    let lines = machine.shell.run_within(script, LONG);
    assert_eq!(lines, xfs.to_string(), "records on xfs");

    let disk = machine.disks.as_ref().unwrap().ext4.copy("soaked.img");
    assert_eq!(records(&disk.ext4_file("records")), ext4, "records on ext4");
    let inner = Disk { path: disk.path.with_file_name("inner.img") };
    fs::write(&inner.path, disk.ext4_file("loop.img")).unwrap();
    let (is_whole, report) = inner.check_ext4();
    assert!(is_whole, "{report}");
    assert_eq!(records(&inner.ext4_file("records")), other, "records on ext4 in a file on ext4");
    for path in [disk.path, inner.path] {
        fs::remove_file(path).unwrap();
    }
    machine.shell.run("rm -r /run/soak /mnt/ext4/records /mnt/ext4/loop.img /mnt/xfs/records");
}

/// What the agent has when nothing is asked of it: memory in bytes, and descriptors, threads and children.
fn holdings(machine: &mut Machine) -> (u64, [u64; 3]) {
    // A thread may end between its name and its file.
    let script = "p=/proc/$(cat /run/qga/pid); set -- $p/fd/*
        echo $(grep VmRSS: $p/status | tr -dc 0-9) $# $(ls $p/task | wc -l) $(cat $p/task/*/children 2>/dev/null | wc -w)";
    let mut look = || {
        let text = machine.shell.run(script);
        let numbers: Vec<u64> = text.split_whitespace().map(|word| word.parse().unwrap()).collect();
        let &[memory, descriptors, threads, children] = &numbers[..] else { panic!("four numbers: {text}") };
        (memory << 10, [descriptors, threads, children])
    };
    // A thread that waits for more work ends some time after the last; the guardian ends on its own.
    wait::until("an idle agent", LONG, || {
        Some(look()).filter(|(_, [_, threads, children])| (*threads, *children) == (1, 0))
    })
}

fn no_guardian(machine: &mut Machine) -> bool {
    machine.shell.succeeds("! grep -q guardian /proc/[0-9]*/comm")
}

/// A freeze that has been asked for.
#[derive(Debug)]
struct Window {
    begin: Instant,
    /// Which of [`POINTS`].
    frozen: Vec<usize>,
}

impl Window {
    /// Freezes all or some.
    fn open(agent: &mut Host, numbers: &mut Numbers) -> Self {
        let begin = Instant::now();
        let all = !numbers.once_in(3);
        let frozen: Vec<_> = (0..POINTS.len()).filter(|_| all || numbers.once_in(2)).collect();
        let reply = if all {
            agent.call_within("guest-fsfreeze-freeze", json!({}), LONG)
        } else {
            let points: Vec<_> = frozen.iter().map(|&point| POINTS[point]).collect();
            agent.call_within("guest-fsfreeze-freeze-list", json!({ "mountpoints": points }), LONG)
        };
        let window = Window { begin, frozen };
        assert!(reply == Ok(json!(window.count())) || window.is_over(), "{window:?}: {reply:?}");
        window
    }

    /// Freezes all, and has no patience for the answer.
    fn open_and_resync(agent: &mut Host) -> Self {
        let window = Window { begin: Instant::now(), frozen: (0..POINTS.len()).collect() };
        agent.send("guest-fsfreeze-freeze", &json!({})).unwrap();
        agent.sync(LONG).unwrap();
        // Nobody is told "thawed" in the middle of it, nor "frozen".
        let going_on = "freezing file systems has been going on for ";
        wait_for("the end of the freeze", || match agent.call_within("guest-fsfreeze-status", json!({}), LONG) {
            Ok(status) => status == "frozen" || window.is_over(),
            Err(error) if error.desc.starts_with(going_on) => false,
            Err(error) => panic!("{error}"),
        });
        window
    }

    fn count(&self) -> usize {
        self.frozen.len()
    }

    /// Whether the agent may have thawed by itself, because this machine stood still for so long.
    fn is_over(&self) -> bool {
        self.begin.elapsed() >= DEADLINE
    }

    /// Looks for what must hold while frozen, and gives the sizes of the files then.
    fn check(&self, machine: &mut Machine, agent: &mut Host, numbers: &mut Numbers) -> Sizes {
        let status = agent.call_within("guest-fsfreeze-status", json!({}), LONG);
        assert!(status == Ok(json!("frozen")) || self.is_over(), "{self:?}: {status:?}");
        if numbers.once_in(4) {
            agent.sync(LONG).unwrap();
            let refused = agent.call_within("guest-get-osinfo", json!({}), LONG);
            assert!(refused.is_err() || self.is_over(), "{refused:?}");
        }
        let (after, before) = sizes_around(machine, Duration::from_millis(numbers.below(200) as u64));
        let same = self.frozen.iter().all(|&point| before[point] == after[point]);
        assert!(same || self.is_over(), "{self:?}: {before:?} {after:?}");
        if self.frozen.contains(&0) && numbers.once_in(10) {
            let snapshot = machine.disks.as_ref().unwrap().ext4.copy("snapshot.img");
            let content = snapshot.ext4_file("records");
            let (is_whole, report) = snapshot.check_ext4();
            assert!(is_whole && content.len() as u64 == after[0] || self.is_over(), "{report}");
            if !self.is_over() {
                records(&content);
            }
        }
        after
    }

    /// Thaws, and tells whether that came in time.
    fn close(self, agent: &mut Host) -> bool {
        let reply = agent.call_within("guest-fsfreeze-thaw", json!({}), LONG);
        let is_right = match &reply {
            Ok(count) => *count == json!(self.count()),
            Err(error) => self.is_over() && was_exceeded(&error.desc),
        };
        assert!(is_right, "{self:?}: {reply:?}");
        !self.is_over()
    }

    /// Does not thaw.
    fn let_pass(self, agent: &mut Host) {
        let thawed = || agent.call_within("guest-fsfreeze-status", json!({}), LONG) == Ok(json!("thawed"));
        wait_for("the thaw at the deadline", thawed);
        assert!(self.is_over(), "thawed too early");
        let told = agent.call_within("guest-fsfreeze-thaw", json!({}), LONG).unwrap_err();
        assert!(was_exceeded(&told.desc), "{told}");
    }
}

fn was_exceeded(text: &str) -> bool {
    text == format!(
        "file systems were thawed before this request, after {} s: no freeze may last longer",
        DEADLINE.as_secs()
    )
}

fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    wait::until(what, LONG, || is_so().then_some(()));
}

fn rounds() -> u64 {
    numbers::from_environment("QGA_SOAK_ROUNDS").unwrap_or(ROUNDS)
}

/// The random numbers of this run, which are said so that they can be had again.
fn chance() -> Numbers {
    let seed = numbers::from_environment("QGA_SOAK_SEED").unwrap_or_else(numbers::any_seed);
    println!("     {} rounds, QGA_SOAK_SEED={seed}", rounds());
    Numbers::new(seed)
}

pub(crate) fn freezing_under_load_over_and_over_loses_nothing_and_leaves_nothing_behind(guest: &mut Guest) {
    let machine = &mut guest.machine;
    let rounds = rounds();
    let mut numbers = chance();
    start_load(machine);
    restart(machine, &format!("-l /run/qga/log --fsfreeze-timeout {}", DEADLINE.as_secs()));
    let mut agent = machine.agent();
    let pid = machine.shell.number("cat /run/qga/pid");
    let begin = Instant::now();
    let mut before = None;
    let (passing, mut passed, mut late) = (rounds / 2, 0, 0);
    for round in 0..rounds {
        if round == (rounds / 10).max(5) {
            before = Some(holdings(machine));
        }
        let mut window = Window::open(&mut agent, &mut numbers);
        if window.count() == 0 || numbers.once_in(8) {
            window.close(&mut agent);
            window = Window::open_and_resync(&mut agent);
        }
        let written = window.check(machine, &mut agent, &mut numbers);
        if numbers.once_in(8) {
            drop(agent);
            agent = machine.agent();
        }
        if round == passing || numbers.once_in(60) && rounds > ROUNDS {
            window.let_pass(&mut agent);
            passed += 1;
        } else {
            late += u64::from(!window.close(&mut agent));
        }
        let status = agent.call_within("guest-fsfreeze-status", json!({}), LONG);
        assert_eq!(status, Ok(Value::from("thawed")), "round {round}");
        wait_written(machine, written);
        if round % 100 == 99 {
            println!("     {} rounds after {} s", round + 1, begin.elapsed().as_secs());
        }
    }
    let seconds = begin.elapsed().as_secs();
    let (memory_before, things_before) = before.expect("more than five rounds");
    let (memory, things) = holdings(machine);
    let (kib_before, kib) = (memory_before >> 10, memory >> 10);
    println!("     {passed} were thawed at the deadline, and {late} because this machine was too slow");
    println!(
        "     {rounds} rounds in {seconds} s; resident memory {kib_before} KiB after a tenth, {kib} KiB at the end"
    );
    println!("     descriptors, threads, children: {things_before:?}, {things:?}");
    assert_eq!(things, things_before);
    assert!(memory < memory_before + GROWTH_MAX, "{kib_before} KiB, {kib} KiB");
    assert!(no_guardian(machine));
    assert_eq!(machine.shell.number("pidof qemu-ga"), pid, "it is another process");
    end_load(machine);
    drop(agent);
    restart(machine, "-l /run/qga/log");
    machine.agent();
}

pub(crate) fn killing_the_agent_while_frozen_over_and_over_loses_nothing(guest: &mut Guest) {
    let machine = &mut guest.machine;
    let mut numbers = chance();
    start_load(machine);
    let mut agent = machine.agent();
    let begin = Instant::now();
    let rounds = (rounds() / KILLED_ONE_IN).max(1);
    for round in 0..rounds {
        agent.call_within("guest-fsfreeze-freeze", json!({}), LONG).unwrap();
        machine.shell.run("kill -9 $(cat /run/qga/pid); while [ -d /proc/$(cat /run/qga/pid) ]; do usleep 10000; done");
        let killed = Instant::now();
        sleep(Duration::from_millis(numbers.below(1000) as u64));
        machine.shell.run("start-agent");
        drop(agent);
        agent = machine.agent();
        // The guardian waits five seconds for another agent, which this machine may have been too slow for.
        let in_time = killed.elapsed() < Duration::from_secs(5);
        let status = agent.call_within("guest-fsfreeze-status", json!({}), LONG).unwrap();
        assert!(status == "frozen" || !in_time, "round {round}: {status}");
        let (written, _) = sizes_around(machine, Duration::ZERO);
        let thawed = agent.call_within("guest-fsfreeze-thaw", json!({}), LONG);
        assert!(thawed == Ok(json!(POINTS.len())) || !in_time, "round {round}: {thawed:?}");
        wait_written(machine, written);
        wait_for("the end of the guardian", || no_guardian(machine));
        assert_eq!(machine.shell.number("pidof qemu-ga | wc -w"), 1);
    }
    println!("     {rounds} times killed in {} s", begin.elapsed().as_secs());
    end_load(machine);
}

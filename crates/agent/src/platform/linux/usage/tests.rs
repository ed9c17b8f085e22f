use std::sync::Condvar;
use std::sync::atomic::AtomicUsize;

use super::*;
use crate::platform::linux::mountinfo::Table;

fn asker(one: u64) -> Asker {
    let patience = Patience { one: Duration::from_millis(one), all: Duration::from_secs(60) };
    Asker { patience, ..Asker::default() }
}

fn questions(minors: std::ops::Range<u32>) -> Vec<Question> {
    let table = Arc::new(Table::parse(b"2 1 8:1 / /x rw - ext4 /dev/sda1 rw\n"));
    let one = |minor| Question { device: Device { major: 8, minor }, table: Arc::clone(&table), mounts: vec![0] };
    minors.map(one).collect()
}

fn answer(question: &Question) -> Answer {
    let size = question.device.minor.into();
    Answer { mount: 0, space: Some(Space { used: size, total: size, privileged: size }) }
}

/// Holds questions about some devices until it is opened; counts all questions.
#[derive(Default)]
struct Gate {
    open: Mutex<bool>,
    changed: Condvar,
    asked: AtomicUsize,
}

impl Gate {
    fn ask(self: &Arc<Self>, dead: fn(u32) -> bool) -> Ask {
        let gate = Arc::clone(self);
        Arc::new(move |question| {
            gate.asked.fetch_add(1, Ordering::SeqCst);
            if dead(question.device.minor) {
                let open = gate.open.lock().unwrap();
                drop(gate.changed.wait_while(open, |open| !*open).unwrap());
            }
            Some(answer(question))
        })
    }

    fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.changed.notify_all();
    }
}

#[test]
fn one_that_hangs_costs_only_its_own_answer_and_is_not_asked_again_until_it_is_back() {
    let asker = asker(500);
    let gate = Arc::new(Gate::default());
    let ask = gate.ask(|minor| minor == 2);
    let expected = |all: &[Question]| -> Vec<Option<Answer>> {
        all.iter().map(|question| (question.device.minor != 2).then(|| answer(question))).collect()
    };
    assert_eq!(asker.ask_by(questions(0..5), &ask), expected(&questions(0..5)));
    assert_eq!(gate.asked.load(Ordering::SeqCst), 5);
    for _ in 0..3 {
        assert_eq!(asker.ask_by(questions(0..5), &ask), expected(&questions(0..5)));
    }
    assert_eq!(gate.asked.load(Ordering::SeqCst), 5 + 3 * 4, "the dead one was asked once");
    gate.open();
    while !asker.stuck().is_empty() {
        thread::sleep(Duration::from_millis(5));
    }
    assert!(asker.ask_by(questions(0..5), &ask).iter().all(Option::is_some));
}

#[test]
fn threads_left_behind_are_limited_in_number() {
    let asker = asker(1);
    let gate = Arc::new(Gate::default());
    let answers = asker.ask_by(questions(0..100), &gate.ask(|_| true));
    assert!(answers.iter().all(Option::is_none));
    assert_eq!(asker.stuck().len(), MAX_STUCK);
    gate.open();
}

#[test]
fn all_of_them_together_have_a_limit() {
    let patience = Patience { one: Duration::from_secs(600), all: Duration::from_millis(50) };
    let asker = Asker { patience, ..Asker::default() };
    let gate = Arc::new(Gate::default());
    let answers = asker.ask_by(questions(0..3), &gate.ask(|minor| minor == 1));
    assert_eq!(answers[1..], [None, None]);
    gate.open();
}

#[test]
fn a_question_that_panics_costs_only_its_own_answer() {
    let asker = asker(60_000);
    let ask: Ask = Arc::new(|question| {
        assert_ne!(question.device.minor, 1, "on purpose");
        Some(answer(question))
    });
    let answers = asker.ask_by(questions(0..3), &ask);
    assert_eq!(answers.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false, true]);
}

#[test]
fn no_question_needs_no_thread() {
    assert_eq!(Asker::default().ask(&Root::default(), Vec::new()), []);
}

#[test]
fn a_real_file_system_says_what_statvfs_says_and_one_that_is_covered_does_not() {
    let root = Root::default();
    let table = Table::read(&root).unwrap();
    let mount = table.lookup(Path::new("/")).unwrap();
    let ask = |id| {
        let lines = format!("{id} 1 8:1 / / rw - x y z\n{} {id} 8:1 / /nonexistent rw - x y z\n", mount.id + 1);
        let table = Arc::new(Table::parse(lines.as_bytes()));
        let question = Question { device: mount.device, table, mounts: vec![1, 0] };
        Asker::default().ask(&root, vec![question]).remove(0)
    };
    let answer = ask(mount.id).unwrap();
    assert_eq!(answer.mount, 0, "the other one does not exist");
    let (space, stat) = (answer.space.unwrap(), rustix::fs::statvfs("/").unwrap());
    assert_eq!(space.privileged, stat.f_blocks * stat.f_frsize);
    assert!(space.used <= space.total && space.total <= space.privileged, "{space:?}");
    assert_eq!(ask(mount.id + 1_000_000), None, "another mount is at this path");
}

#[test]
fn one_that_answers_at_the_last_moment_is_not_taken_for_stuck_for_ever() {
    let asker = asker(1);
    let ask: Ask = Arc::new(|question: &Question| {
        if question.device.minor == 0 {
            // About as long as is waited.
            thread::sleep(Duration::from_micros(950));
        }
        Some(answer(question))
    });
    let until = Instant::now() + Duration::from_secs(60);
    for round in 0..1000 {
        asker.ask_by(questions(0..2), &ask);
        while !asker.stuck().is_empty() {
            assert!(Instant::now() < until, "stuck since round {round}: {:?}", asker.stuck());
            thread::sleep(Duration::from_micros(200));
        }
    }
}

use std::path::Path;

use qga_testkit::fake::Agent;

use super::*;

const ENOUGH: Duration = Duration::from_secs(30);

fn connect(path: &Path) -> Result<Client, Error> {
    Client::unix(path, ENOUGH)
}

fn thawed(results: &[(&str, &str)]) -> Result<Thawed, Error> {
    let guest = Agent::start(results);
    let path = guest.path();
    thaw_for_certain(&mut None, || connect(&path), Deadline::after(Duration::ZERO))
}

const THAW: &str = "guest-fsfreeze-thaw";
const STATUS: &str = "guest-fsfreeze-status";

#[test]
fn a_thaw_counts_what_it_thawed() {
    assert_eq!(thawed(&[(THAW, "2")]).unwrap(), Thawed::Now(2));
}

#[test]
fn what_was_thawed_before_is_told_whatever_agent_says_it() {
    let nothing = Thawed::Before("the agent had nothing to thaw".into());
    assert_eq!(thawed(&[(THAW, "0")]).unwrap(), nothing);
    for desc in [
        "file systems were thawed before this request, after 3 s: no freeze may last longer",
        "the agent ended while file systems were frozen, and they were thawed then",
        "couldn't hold writes: fsfreeze is limited up to 10 seconds",
    ] {
        let error = format!(r#"{{"error": {{"class": "GenericError", "desc": "{desc}"}}}}"#);
        assert_eq!(thawed(&[(THAW, &error)]).unwrap(), Thawed::Before(desc.into()));
    }
}

#[test]
fn a_complaint_of_an_agent_that_has_thawed_is_no_failure_to_thaw() {
    let error = r#"{"error": {"class": "GenericError", "desc": "hook failed"}}"#;
    let complaint = Thawed::WithComplaint("hook failed".into());
    assert_eq!(thawed(&[(THAW, error), (STATUS, "\"thawed\"")]).unwrap(), complaint);
    let still = thawed(&[(THAW, error), (STATUS, "\"frozen\"")]).unwrap_err();
    assert!(matches!(still, Error::Failed { .. }), "{still}");
}

#[test]
fn a_thaw_is_tried_again_over_another_connection_until_it_is_answered() {
    let guest = Agent::start(&[
        (THAW, r#"{"error": {"class": "GenericError", "desc": "not yet"}}"#),
        (THAW, "2"),
        (STATUS, "\"frozen\""),
    ]);
    let mut attempts = 0;
    let thawed = thaw_for_certain(
        &mut None,
        || {
            attempts += 1;
            if attempts < 3 { connect(Path::new("/nonexistent/sock")) } else { connect(&guest.path()) }
        },
        Deadline::after(ENOUGH),
    );
    assert_eq!((thawed.unwrap(), attempts), (Thawed::Now(2), 4));
}

#[test]
fn nothing_left_to_thaw_after_an_answer_was_lost_is_no_reason_to_complain() {
    let guest = Agent::start(&[(THAW, ""), (THAW, "0")]);
    let path = guest.path();
    let mut agent = Some(Client::unix(&path, Duration::from_secs(1)).unwrap());
    let thawed = thaw_for_certain(&mut agent, || connect(&path), Deadline::after(ENOUGH));
    assert_eq!(thawed.unwrap(), Thawed::Uncounted);
}

#[test]
fn an_agent_that_does_not_come_back_is_given_up_at_the_deadline() {
    let error = thaw_for_certain(
        &mut None,
        || connect(Path::new("/nonexistent/sock")),
        Deadline::after(Duration::from_millis(200)),
    );
    assert!(matches!(error, Err(Error::Open { .. })), "{error:?}");
}

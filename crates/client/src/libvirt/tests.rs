//! Errors of libvirt, as its releases word them.

use std::time::Duration;

use serde_json::Value;

use super::*;

fn explained(text: &str) -> Result<Answer, Error> {
    let libvirt = Libvirt::new(None, "vm").unwrap();
    let said = Said { out: String::new(), err: text.to_owned() };
    libvirt.explain(&said, Deadline::after(Duration::from_secs(60)))
}

#[test]
fn what_the_agent_said_becomes_its_reply_again() {
    let cases = [
        ("guest-x", "The command guest-x has not been found", "CommandNotFound"),
        ("guest-x", "Command guest-x has been disabled: the command is not allowed", "CommandNotFound"),
        ("guest-file-open", "failed to open file '/x': No such file or directory", "GenericError"),
    ];
    for (name, desc, class) in cases {
        let text = format!("internal error: unable to execute QEMU agent command '{name}': {desc}");
        let Ok(Answer::Reply(reply)) = explained(&text) else { panic!("{text} is no reply") };
        let error = reply.read::<Value>().unwrap().unwrap_err();
        assert_eq!((error.class.as_str(), error.desc.as_str()), (class, desc));
    }
}

#[test]
fn every_layer_that_libvirt_knows_is_told_apart() {
    let layer = |text: &str| explained(text).unwrap_err();
    let unresponsive = "Guest agent is not responding: ";
    assert!(matches!(layer(&format!("{unresponsive}QEMU guest agent is not connected")), Error::PortClosed(_)));
    assert!(matches!(layer(&format!("{unresponsive}Guest agent not available for now")), Error::Silent(_)));
    assert!(matches!(layer("argument unsupported: QEMU guest agent is not configured"), Error::NoPort(_)));
    assert!(matches!(layer("Requested operation is not valid: domain is not running"), Error::NotRunning(_)));
    let unknown = "failed to get domain 'vm': Domain not found: no domain with matching name 'vm'";
    assert!(matches!(layer(unknown), Error::NoDomain(name) if name == "vm"));
    let refused = "failed to connect to the hypervisor: \x1b[2J";
    assert!(matches!(layer(refused), Error::Libvirt(what) if what.ends_with("\\x1b[2J")));
    assert_eq!(explained("Guest agent disappeared while executing command").unwrap(), Answer::Closed);
}

#[test]
fn only_printable_ascii_goes_to_virsh() {
    let request = "{\"execute\":\"x\",\"arguments\":{\"a\":\"é🦀\u{7f}'\"}}\n";
    let text = ascii(request.as_bytes());
    assert!(text.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{text}");
    assert_eq!(
        serde_json::from_str::<Value>(&text).unwrap(),
        serde_json::from_str::<Value>(request).unwrap(),
        "the meaning stays"
    );
}

#[test]
fn names_and_uris_that_would_be_more_than_that_are_refused() {
    for name in ["", "a\nundefine b", "a\u{7f}"] {
        assert!(matches!(Libvirt::new(None, name), Err(Error::Arguments(_))), "{name}");
    }
    for uri in ["", "--help", "a\nb"] {
        assert!(matches!(Libvirt::new(Some(uri), "vm"), Err(Error::Arguments(_))), "{uri}");
    }
}

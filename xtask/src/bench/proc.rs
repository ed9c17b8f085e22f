//! Files of `/proc` in lines of a name, a colon and a value.

/// The value behind a name, without the white space around it.
pub(super) fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix(':')).map(str::trim)
}

/// Whether none of the threads with these `status` files is running or about to.
pub(super) fn all_sleep(statuses: &[String]) -> bool {
    statuses.iter().all(|status| field(status, "State").is_some_and(|state| state.starts_with('S')))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Name:\tworker\nUmask:\t0022\nState:\tS (sleeping)\nTgid:\t4242\n";

    #[test]
    fn a_field_is_found_by_its_whole_name() {
        assert_eq!(field(STATUS, "State"), Some("S (sleeping)"));
        assert_eq!(field("model name\t: Some CPU\n", "model name"), Some("Some CPU"));
        assert_eq!((field(STATUS, "Sta"), field(STATUS, "Threads")), (None, None));
    }

    #[test]
    fn an_agent_that_frees_its_last_reply_is_not_at_rest() {
        let sleeps = STATUS.to_owned();
        let works = STATUS.replace("S (sleeping)", "R (running)");
        let waits_for_a_disk = STATUS.replace("S (sleeping)", "D (disk sleep)");
        assert!(all_sleep(&[sleeps.clone(), sleeps.clone()]));
        assert!(!all_sleep(&[sleeps.clone(), works]));
        assert!(!all_sleep(&[waits_for_a_disk, sleeps]));
    }
}

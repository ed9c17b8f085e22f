//! Any bytes are a key file or are refused in one line for people; what is read from it can be written and is read as
//! the same; and so can the configuration that it makes.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use qemu_ga::config::Config;
use qemu_ga::config::keyfile::{KeyFile, escape};

/// Goes into messages that others read line by line.
fn is_one_line(text: &str) -> bool {
    !text.is_empty() && !text.contains(char::is_control)
}

fn values(file: &KeyFile) -> Vec<(String, String, Option<String>)> {
    let mut all = Vec::new();
    for group in file.groups() {
        for key in file.keys(group) {
            let text = file.string(group, key);
            let flag = file.boolean(group, key);
            let number = file.integer(group, key);
            match &text {
                Ok(None) => panic!("{key} is there"),
                Ok(Some(text)) => {
                    let text = text.trim_end();
                    assert_eq!(matches!(flag, Ok(Some(true))), matches!(text, "true" | "1") && flag.is_ok());
                    assert!(number.as_ref().is_ok_and(|n| n.is_some()) || number.is_err());
                    if let Ok(Some(number)) = number {
                        assert_eq!(text.parse(), Ok(number));
                    }
                }
                Err(complaint) => assert!(is_one_line(complaint)),
            }
            all.push((group.to_owned(), key.to_owned(), text.ok().flatten()));
        }
    }
    all
}

fuzz_target!(|data: &[u8]| {
    let file = match KeyFile::parse(data) {
        Ok(file) => file,
        Err(complaint) => return assert!(is_one_line(&complaint)),
    };
    assert_eq!(file.string("general", "no=key"), Ok(None));
    let found = values(&file);

    let mut written = String::new();
    for group in file.groups() {
        written.push_str(&format!("[{group}]\n"));
        for (_, key, value) in found.iter().filter(|(of, ..)| of == group) {
            // A value that is none is not one afterwards either.
            written.push_str(&format!("{key}={}\n", value.as_deref().map_or("\\x".to_owned(), escape)));
        }
    }
    let again = KeyFile::parse(written.as_bytes()).expect("what was written is read");
    assert!(again.groups().eq(file.groups()));
    assert_eq!(values(&again), found);

    let (mut config, mut warnings) = (Config::default(), Vec::new());
    if let Err(complaint) = config.take(data, Path::new("FILE"), &mut warnings) {
        return assert!(is_one_line(&complaint));
    }
    assert!(warnings.iter().all(|warning| is_one_line(warning)));
    let (mut again, mut warnings) = (Config::default(), Vec::new());
    assert_eq!(again.take(config.dump().as_bytes(), Path::new("FILE"), &mut warnings), Ok(()));
    assert_eq!((again, warnings.len()), (config, 0));
});

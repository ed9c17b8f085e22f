//! What udev knows of a block device: its database, `/run/udev/data/bMAJOR:MINOR`. Where no udev runs there is none.

use super::mountinfo::Device;
use super::root::Root;

/// The properties of one device.
#[derive(Debug, Clone, Default)]
pub struct Properties(Vec<u8>);

impl Properties {
    /// Those of a block device; none where udev has no record of it.
    pub fn of_block(root: &Root, device: Device) -> Self {
        Self::parse(root.read(format!("/run/udev/data/b{device}")).unwrap_or_default())
    }

    /// Those of a record, as it stands in the database.
    pub fn parse(record: Vec<u8>) -> Self {
        Properties(record)
    }

    /// The value of a property, if it is there and not empty. What is no UTF-8 in it is replaced.
    pub fn get(&self, key: &str) -> Option<String> {
        let value = self.0.split(|b| *b == b'\n').find_map(|line| {
            line.strip_prefix(b"E:")?.strip_prefix(key.as_bytes())?.strip_prefix(b"=").filter(|value| !value.is_empty())
        })?;
        Some(String::from_utf8_lossy(value).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn properties_are_the_lines_marked_e_and_empty_ones_count_as_missing() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("run/udev/data")).unwrap();
        let text = b"S:disk/by-id/x\nE:ID_SERIAL_SHORT=short\nE:ID_SERIAL=a=b \xff\nE:DM_NAME=\nG:systemd\n";
        fs::write(dir.path().join("run/udev/data/b8:1"), text).unwrap();
        let root = Root::new(dir.path());
        let properties = Properties::of_block(&root, Device { major: 8, minor: 1 });
        assert_eq!(properties.get("ID_SERIAL").as_deref(), Some("a=b \u{fffd}"));
        assert_eq!(properties.get("ID_SERIAL_SHORT").as_deref(), Some("short"));
        assert_eq!([properties.get("DM_NAME"), properties.get("ID"), properties.get("disk")], [None, None, None]);
        assert_eq!(Properties::of_block(&root, Device { major: 8, minor: 2 }).get("ID_SERIAL"), None);
    }
}

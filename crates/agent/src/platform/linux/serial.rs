//! Serial numbers of disks where no udev runs: composed of what the kernel tells, to the text that udev would have
//! composed (`ID_SERIAL`).

use std::fs;
use std::path::Path;

use super::device::Block;

/// Length of the vendor's name in SCSI data.
const VENDOR: usize = 8;

/// Length of the model's name in ATA data.
const ATA_MODEL: usize = 40;

/// The serial number of a disk, or of the disk of a partition.
pub fn compose(device: &Block) -> Option<String> {
    let disk = device.disk_dir();
    let name = disk.file_name()?.to_str()?;
    if name.starts_with("nvme") {
        nvme(disk)
    } else if name.starts_with("vd") {
        text(&disk.join("serial"))
    } else if name.starts_with("mmcblk") {
        text(&disk.join("device/serial"))
    } else if device.path.contains("/usb") {
        usb(disk)
    } else if disk.join("device/vendor").exists() {
        fs::read(disk.join("device/vpd_pg83")).ok().and_then(|page| scsi(disk, &page))
    } else {
        None
    }
}

/// `MODEL_SERIAL_NAMESPACE`; the first two are the controller's, or the subsystem's, in whose directory it is.
fn nvme(disk: &Path) -> Option<String> {
    let controller = disk.parent()?;
    let mut serial = format!("{}_{}", text(&controller.join("model"))?, text(&controller.join("serial"))?);
    if let Some(namespace) = text(&disk.join("nsid")) {
        serial.push('_');
        serial.push_str(&namespace);
    }
    Some(serial)
}

/// `VENDOR_MODEL_SERIAL-TARGET:LUN`, where the serial number is that of the device at the bus.
fn usb(disk: &Path) -> Option<String> {
    let device = fs::canonicalize(disk.join("device")).ok()?;
    let mut unit = device.file_name()?.to_str()?.split(':').skip(2);
    let instance = format!("{}:{}", unit.next()?, unit.next()?);
    let names = [text(&device.join("vendor")), text(&device.join("model"))];
    // Interfaces of it lie between, and have no such file.
    let serial =
        device.ancestors().skip(1).take_while(|dir| !is_usb_bus(dir)).find_map(|dir| text(&dir.join("serial")));
    let parts: Vec<String> = names.into_iter().chain([serial]).flatten().collect();
    (!parts.is_empty()).then(|| format!("{}-{instance}", parts.join("_")))
}

fn is_usb_bus(dir: &Path) -> bool {
    let name = dir.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.strip_prefix("usb").is_some_and(|number| number.bytes().all(|b| b.is_ascii_digit()))
}

/// One way in which a SCSI disk names itself.
#[derive(Debug, Clone, Copy)]
struct Designator<'a> {
    /// Whether it is text.
    is_text: bool,
    kind: u8,
    value: &'a [u8],
}

/// From the page "device identification": the best of its names, with the number of its kind in front. ATA disks have
/// theirs in there too, and are named `MODEL_SERIAL`.
fn scsi(disk: &Path, page: &[u8]) -> Option<String> {
    let all = designators(page);
    let ata = all.iter().filter(|one| one.kind == 1).find_map(|one| one.value.strip_prefix(b"ATA     "));
    if let Some((model, serial)) = ata.and_then(|value| value.split_at_checked(ATA_MODEL)) {
        return Some(format!("{}_{}", squeeze(model)?, squeeze(serial)?));
    }
    let best = all.iter().min_by_key(|one| rank(one)).filter(|one| rank(one) < UNKNOWN)?;
    let name = match (best.kind, best.is_text) {
        (0, true) => {
            let names = [text_raw(&disk.join("device/vendor"), VENDOR), text_raw(&disk.join("device/model"), 16)];
            squeeze(&[names.concat().as_slice(), best.value].concat())?
        }
        (_, true) => squeeze(best.value)?,
        (_, false) => best.value.iter().map(|byte| format!("{byte:02x}")).collect(),
    };
    Some(format!("{}{name}", best.kind))
}

const UNKNOWN: u8 = u8::MAX;

/// Names that are unique by how they are made come first, the vendor's own last.
fn rank(designator: &Designator<'_>) -> u8 {
    match (designator.kind, designator.value.first().map_or(0, |byte| byte >> 4)) {
        (3, 6) => 0,
        (3, 5) => 1,
        (3, _) => 2,
        (2, _) => 3,
        (1, _) => 4,
        (0, _) => 5,
        _ => UNKNOWN,
    }
}

/// The names of the logical unit itself; those of its port and target are left out.
fn designators(page: &[u8]) -> Vec<Designator<'_>> {
    let mut found = Vec::new();
    let [_, _, high, low, rest @ ..] = page else { return found };
    let mut rest = rest.get(..usize::from(u16::from_be_bytes([*high, *low]))).unwrap_or(rest);
    while let [code, kind, _, length, tail @ ..] = rest {
        let Some((value, next)) = tail.split_at_checked(usize::from(*length)) else { break };
        if kind & 0x30 == 0 && !value.is_empty() {
            found.push(Designator { is_text: code & 0xf != 1, kind: kind & 0xf, value });
        }
        rest = next;
    }
    found
}

/// A file's text as udev puts it into names: `None` where there is none.
fn text(file: &Path) -> Option<String> {
    squeeze(&fs::read(file).ok()?)
}

/// A file's text in a field of a fixed length.
fn text_raw(file: &Path, length: usize) -> Vec<u8> {
    let mut field = fs::read(file).unwrap_or_default();
    if field.last() == Some(&b'\n') {
        field.pop();
    }
    field.resize(length, b' ');
    field
}

/// Without white space around it, and with one `_` for each stretch within.
fn squeeze(text: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(text);
    let words: Vec<&str> =
        text.split(|c: char| c.is_whitespace() || c == '\0').filter(|word| !word.is_empty()).collect();
    (!words.is_empty()).then(|| words.join("_"))
}

#[cfg(test)]
#[path = "serial/tests.rs"]
mod tests;

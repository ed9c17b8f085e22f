//! Results as other agents give them: older ones, newer ones, and those of other systems.

use qga_proto::Command;
use qga_proto::types::core::GuestInfo;
use qga_proto::types::fsfreeze::GuestFstrim;
use qga_proto::types::memory::{GuestMemoryBlockResponseType, GuestSetMemoryBlocks};
use qga_proto::types::network::{GuestIpAddressType, GuestNetworkGetInterfaces};
use qga_proto::types::stats::{GuestCpuStatsType, GuestGetCpustats};
use qga_proto::types::storage::{GuestDiskBusType, GuestGetDisks, GuestGetFsinfo, GuestPciAddress};

fn read<C: Command>(json: &str) -> C::Ret {
    serde_json::from_str(json).unwrap_or_else(|error| panic!("{}: {error}", C::NAME))
}

#[test]
fn an_old_agent_leaves_members_out() {
    let info = read::<GuestInfo>(r#"{"version": "0.15.0"}"#);
    assert!(info.supported_commands.is_empty());
    let info =
        read::<GuestInfo>(r#"{"version": "1.4.0", "supported_commands": [{"name": "guest-sync", "enabled": true}]}"#);
    assert!(info.supported_commands[0].success_response);
    assert!(read::<GuestFstrim>("{}").paths.is_empty());
    let mounts = read::<GuestGetFsinfo>(r#"[{"name": "C:", "mountpoint": "C:\\", "type": "NTFS"}]"#);
    assert_eq!((mounts[0].total_bytes, mounts[0].disk.len()), (None, 0));
}

#[test]
fn a_new_agent_adds_members_and_words() {
    let disks = read::<GuestGetDisks>(
        r#"[{"name": "/dev/x", "partition": false, "colour": "red", "address":
            {"bus-type": "cxl", "bus": 0, "unit": 0, "target": 0, "lanes": [16]}}]"#,
    );
    let address = disks[0].address.as_ref().unwrap();
    assert_eq!(address.bus_type, GuestDiskBusType::Unknown);
    assert_eq!(address.pci_controller, GuestPciAddress::default());

    let interfaces = read::<GuestNetworkGetInterfaces>(
        r#"[{"name": "x", "mtu": 9000, "ip-addresses": [{"ip-address-type": "ipv8", "ip-address": "1", "prefix": 3}]}]"#,
    );
    assert_eq!(interfaces[0].ip_addresses.as_ref().unwrap()[0].ip_address_type, GuestIpAddressType::Other);
    let blocks = read::<GuestSetMemoryBlocks>(r#"[{"phys-index": 1, "response": "pending"}]"#);
    assert_eq!(blocks[0].response, GuestMemoryBlockResponseType::Other);
    let cpus = read::<GuestGetCpustats>(r#"[{"type": "bsd", "cpu": 0, "user": 1, "nice": 2, "system": 3, "idle": 4}]"#);
    assert_eq!(cpus[0].kind, GuestCpuStatsType::Other);
}

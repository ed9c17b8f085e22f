//! Any value is bound to the arguments of any command, or refused in words.
#![no_main]

use libfuzzer_sys::fuzz_target;
use qga_proto::types::{core, file, fsfreeze, network, power};
use qga_proto::{Command, bind, json};

fn bound<C: Command>(data: &[u8]) {
    let Ok(node) = json::read(data) else { return };
    if let Err(error) = bind::from_node::<C::Args<'_>>(node.clone()) {
        assert!(!error.desc.is_empty());
    }
    // Results are read by the client.
    if let Ok(ret) = bind::from_node::<C::Ret>(node) {
        let mut out = Vec::new();
        json::write(&mut out, &ret);
        assert!(json::read(&out).is_ok());
    }
}

fuzz_target!(|data: &[u8]| {
    bound::<core::GuestSync>(data);
    bound::<core::GuestInfo>(data);
    bound::<file::GuestFileOpen>(data);
    bound::<file::GuestFileRead>(data);
    bound::<file::GuestFileWrite>(data);
    bound::<file::GuestFileSeek>(data);
    bound::<fsfreeze::GuestFsfreezeStatus>(data);
    bound::<fsfreeze::GuestFstrim>(data);
    bound::<network::GuestNetworkGetInterfaces>(data);
    bound::<power::GuestShutdown>(data);
});

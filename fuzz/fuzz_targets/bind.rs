//! Any value is bound to the arguments of any command, or refused in words.
#![no_main]

use libfuzzer_sys::fuzz_target;
use qga_proto::json::Node;
use qga_proto::types::{
    account, core, cpu, exec, file, fsfreeze, memory, network, power, ssh, stats, storage, system, time,
};
use qga_proto::{Command, bind, json};

fn bound<C: Command>(node: &Node<'_>) {
    if let Err(error) = bind::from_node::<C::Args<'_>>(node.clone()) {
        assert!(!error.desc.is_empty());
    }
    // Results are read by the client: what it has understood is the same when it is written and read again.
    if let Ok(ret) = bind::from_node::<C::Ret>(node.clone()) {
        let mut out = Vec::new();
        json::write(&mut out, &ret);
        let again: C::Ret = bind::from_node(json::read(&out).expect("JSON was written")).expect("the same is bound");
        let mut twice = Vec::new();
        json::write(&mut twice, &again);
        assert_eq!(twice, out);
    }
}

fuzz_target!(|data: &[u8]| {
    let Ok(node) = json::read(data) else { return };
    bound::<account::GuestSetUserPassword>(&node);
    bound::<core::GuestSync>(&node);
    bound::<core::GuestSyncDelimited>(&node);
    bound::<core::GuestPing>(&node);
    bound::<core::GuestInfo>(&node);
    bound::<cpu::GuestGetVcpus>(&node);
    bound::<cpu::GuestSetVcpus>(&node);
    bound::<exec::GuestExec>(&node);
    bound::<exec::GuestExecStatus>(&node);
    bound::<file::GuestFileOpen>(&node);
    bound::<file::GuestFileClose>(&node);
    bound::<file::GuestFileFlush>(&node);
    bound::<file::GuestFileRead>(&node);
    bound::<file::GuestFileWrite>(&node);
    bound::<file::GuestFileSeek>(&node);
    bound::<fsfreeze::GuestFsfreezeStatus>(&node);
    bound::<fsfreeze::GuestFsfreezeFreeze>(&node);
    bound::<fsfreeze::GuestFsfreezeFreezeList>(&node);
    bound::<fsfreeze::GuestFsfreezeThaw>(&node);
    bound::<fsfreeze::GuestFstrim>(&node);
    bound::<memory::GuestGetMemoryBlocks>(&node);
    bound::<memory::GuestSetMemoryBlocks>(&node);
    bound::<memory::GuestGetMemoryBlockInfo>(&node);
    bound::<network::GuestNetworkGetInterfaces>(&node);
    bound::<network::GuestNetworkGetRoute>(&node);
    bound::<power::GuestShutdown>(&node);
    bound::<power::GuestSuspendDisk>(&node);
    bound::<power::GuestSuspendRam>(&node);
    bound::<power::GuestSuspendHybrid>(&node);
    bound::<ssh::GuestSshGetAuthorizedKeys>(&node);
    bound::<ssh::GuestSshAddAuthorizedKeys>(&node);
    bound::<ssh::GuestSshRemoveAuthorizedKeys>(&node);
    bound::<stats::GuestGetDiskstats>(&node);
    bound::<stats::GuestGetCpustats>(&node);
    bound::<stats::GuestGetLoad>(&node);
    bound::<storage::GuestGetFsinfo>(&node);
    bound::<storage::GuestGetDisks>(&node);
    bound::<system::GuestGetHostName>(&node);
    bound::<system::GuestGetUsers>(&node);
    bound::<system::GuestGetTimezone>(&node);
    bound::<system::GuestGetOsinfo>(&node);
    bound::<time::GuestGetTime>(&node);
    bound::<time::GuestSetTime>(&node);
});

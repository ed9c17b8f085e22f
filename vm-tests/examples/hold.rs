use std::rc::Rc;
use vm_tests::{Image, Machine, Spec};
fn main() {
    let machine = Machine::boot(&Rc::new(Image::build()), Spec { disks: true, ..Spec::default() });
    let dir = machine.agent_socket().parent().unwrap().display().to_string();
    drop(machine.shell);
    drop(machine.qmp);
    std::fs::write("/tmp/faults-dir", dir).unwrap();
    std::thread::sleep(std::time::Duration::from_secs(3600));
}

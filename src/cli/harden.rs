//! Restricts this process before it reads a secret: umask, core dumps, debuggers.

use rustix::fs::Mode;
use rustix::process::{Resource, Rlimit, setrlimit, umask};

use super::failure::Failure;

/// New files are for their owner alone; no core dumps; no other process of this user may attach
/// or read our memory.
///
/// # Errors
/// When the system refuses: going on would risk what the caller relies on.
pub(crate) fn process() -> Result<(), Failure> {
    umask(Mode::RWXG | Mode::RWXO);
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })
        .map_err(|error| Failure::failed("cannot turn core dumps off", &error))?;
    undumpable()
}

/// The part that no child inherits, for a process whose child must find the world as it is. No core
/// is written of it either.
///
/// # Errors
/// When the system refuses.
pub(crate) fn memory() -> Result<(), Failure> {
    undumpable()
}

#[cfg(target_os = "linux")]
fn undumpable() -> Result<(), Failure> {
    use rustix::process::{DumpableBehavior, set_dumpable_behavior};
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(|error| Failure::failed("cannot protect the process's memory", &error))
}

#[cfg(not(target_os = "linux"))]
fn undumpable() -> Result<(), Failure> {
    Ok(())
}

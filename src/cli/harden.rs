//! Restricts this process before it reads a secret: umask, core dumps, debuggers.

use std::sync::OnceLock;

use rustix::fs::Mode;
use rustix::process::{Resource, Rlimit, setrlimit, umask};

use super::failure::Failure;

/// The umask of the user, once [`process`] has replaced it.
static UMASK_OF_USER: OnceLock<Mode> = OnceLock::new();

/// New files are for their owner alone; no core dumps; no other process of this user may attach
/// or read our memory.
///
/// # Errors
/// When the system refuses: going on would risk what the caller relies on.
pub(crate) fn process() -> Result<(), Failure> {
    let inherited = umask(Mode::RWXG | Mode::RWXO);
    UMASK_OF_USER.get_or_init(|| inherited);
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })
        .map_err(|error| Failure::failed("cannot turn core dumps off", &error))?;
    undumpable()
}

/// Starts a program that is the user's own, such as a browser, with the umask of the user. Files that another thread creates
/// meanwhile are in the data directory, which is private.
pub(crate) fn with_umask_of_user<T>(start: impl FnOnce() -> T) -> T {
    let Some(of_user) = UMASK_OF_USER.get() else { return start() };
    let own = umask(*of_user);
    let started = start();
    umask(own);
    started
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

//! Ends the processes that the program leaves behind. They become children of this process
//! (`PR_SET_CHILD_SUBREAPER`), and are ended because their proxy is gone.

use std::time::Duration;

use rustix::process::{Pid, Signal, WaitOptions, kill_process, wait};

use keyward_net::processes::tree;

/// How long the processes may take to end after SIGTERM.
const ENDED_WITHIN: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Attempts to kill; processes that are stuck in the kernel are left afterwards.
const LOOKS_MAX: usize = 200;

/// Makes orphaned descendants children of this process (prctl(2), `PR_SET_CHILD_SUBREAPER`), so that
/// daemons stay in its tree. Linux only.
pub(super) fn adopt() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::set_child_subreaper(Some(rustix::process::getpid())) {
        tracing::warn!(%error, "remaining processes of the program are not found");
    }
}

/// Ends all descendants after the program has ended.
pub(super) async fn end() {
    let deadline = tokio::time::Instant::now() + ENDED_WITHIN;
    while send(Signal::TERM) {
        if tokio::time::Instant::now() > deadline {
            return kill().await;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Kills all descendants, the program included.
pub(super) async fn kill() {
    for _ in 0..LOOKS_MAX {
        if !send(Signal::KILL) {
            return;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Sends the signal to all descendants. Returns whether there are any.
fn send(signal: Signal) -> bool {
    // Ended processes stay in the tree until they are waited for.
    while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
    let own = std::process::id();
    let left = tree(own).into_iter().filter(|pid| *pid != own);
    let left: Vec<_> = left.filter_map(|pid| Pid::from_raw(pid.cast_signed())).collect();
    for pid in &left {
        if let Err(error) = kill_process(*pid, signal) {
            tracing::debug!(%error, ?signal, "a process did not get a signal");
        }
    }
    !left.is_empty()
}

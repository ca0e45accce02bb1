//! Ends the processes that the program leaves behind. They become children of this process
//! (`PR_SET_CHILD_SUBREAPER`), and are ended because their proxy is gone.

use std::time::Duration;

use rustix::process::{Pid, Signal, WaitOptions, kill_process, wait};

use keyward_net::processes::tree;

/// How long they have to end by themselves once they are told to.
const ENDED_WITHIN: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Looks after which what still cannot be killed is left: a process in the kernel's hands.
const LOOKS_MAX: usize = 200;

/// From now on, whatever a descendant leaves behind is a child of this process (prctl(2),
/// `PR_SET_CHILD_SUBREAPER`): also a daemon stays in its tree. Linux only.
pub(super) fn adopt() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::set_child_subreaper(Some(rustix::process::getpid())) {
        tracing::warn!(%error, "what the program leaves behind is not found again");
    }
}

/// Ends all of them, once the program itself has ended.
pub(super) async fn end() {
    let deadline = tokio::time::Instant::now() + ENDED_WITHIN;
    while tell(Signal::TERM) {
        if tokio::time::Instant::now() > deadline {
            return kill().await;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Ends all of them at once, the program too.
pub(super) async fn kill() {
    for _ in 0..LOOKS_MAX {
        if !tell(Signal::KILL) {
            return;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Gives every one a signal. Whether there was any.
fn tell(signal: Signal) -> bool {
    // Those that have ended are still in the tree until somebody asks how.
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

//! Signals that a command reads, to roll back unfinished work or to forward them. Handlers stay in the process, so a signal
//! that nothing reads any more gets the effect that it has without a handler.

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::{fs, io};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Signal, getpid, kill_process};
use signal_hook::flag::register_conditional_default;
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::WithRawSiginfo;

/// Signals that end a process. The last one is sent when its terminal is closed.
const ENDING: &[Signal] = &[Signal::INT, Signal::TERM, Signal::HUP];

/// How many [`Signals`] exist.
static READERS: AtomicUsize = AtomicUsize::new(0);

/// Whether [`ENDING`] have their usual effect: nothing reads them.
static ARE_UNREAD: LazyLock<Arc<AtomicBool>> = LazyLock::new(|| {
    let are_unread = Arc::new(AtomicBool::new(true));
    for signal in not_ignored(ENDING) {
        // If this fails, the signal is lost while nothing reads it.
        let _ = register_conditional_default(signal, Arc::clone(&are_unread));
    }
    are_unread
});

#[derive(Clone, Copy, Debug)]
pub(crate) struct ReceivedSignal {
    pub(crate) signal: Signal,
    pub(crate) sender: SignalSender,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum SignalSender {
    /// A process, as kill(1) does.
    Process,
    /// The kernel, such as for a terminal.
    Kernel,
    /// Only Linux reports it.
    Unknown,
}

/// Reads signals as long as it exists; they have no other effect then.
pub(crate) struct Signals(SignalDelivery<UnixStream, WithRawSiginfo>);

impl Signals {
    /// Those that end a process.
    pub(crate) fn ending() -> io::Result<Self> {
        Self::of(ENDING)
    }

    /// These, except for those that the process ignores since its start, as nohup(1) starts it.
    pub(crate) fn of(signals: &[Signal]) -> io::Result<Self> {
        let (read, write) = UnixStream::pair()?;
        read.set_nonblocking(true)?;
        let delivery =
            SignalDelivery::with_pipe(read, write, WithRawSiginfo, not_ignored(signals))?;
        READERS.fetch_add(1, Ordering::SeqCst);
        ARE_UNREAD.store(false, Ordering::SeqCst);
        Ok(Self(delivery))
    }

    /// Whether signals are read, so that they do not end this process.
    pub(crate) fn are_read() -> bool {
        READERS.load(Ordering::SeqCst) > 0
    }

    /// Waits for the next signal.
    pub(crate) async fn next(&mut self) -> io::Result<ReceivedSignal> {
        loop {
            if let Some(received) = self.received() {
                return Ok(received);
            }
            let read = tokio::net::UnixStream::from_std(self.0.get_read().try_clone()?)?;
            read.readable().await?;
        }
    }

    /// Blocks until there is input or a signal. Returns whether it was a signal.
    pub(crate) fn wait_for_signal_or_input(&mut self, input: &impl AsFd) -> io::Result<bool> {
        loop {
            if self.received().is_some() {
                return Ok(true);
            }
            let mut waiting =
                [PollFd::new(input, PollFlags::IN), PollFd::new(self.0.get_read(), PollFlags::IN)];
            match poll(&mut waiting, None) {
                Ok(_) if !waiting[0].revents().is_empty() => return Ok(false),
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Ends the reading. Unless something else reads the signal, it has its usual effect now.
    pub(crate) fn take_effect(self, signal: Signal) {
        drop(self);
        if ARE_UNREAD.load(Ordering::SeqCst) {
            // A process may always send signals to itself.
            let _ = kill_process(getpid(), signal);
        }
    }

    fn received(&mut self) -> Option<ReceivedSignal> {
        let info = self.0.pending().next()?;
        let signal = Signal::from_named_raw(info.si_signo)?;
        let sender = match info.si_code {
            _ if !cfg!(target_os = "linux") => SignalSender::Unknown,
            // sigaction(2): the kernel's own codes are positive.
            ..=0 => SignalSender::Process,
            _ => SignalSender::Kernel,
        };
        Some(ReceivedSignal { signal, sender })
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        let is_last = READERS.fetch_sub(1, Ordering::SeqCst) == 1;
        ARE_UNREAD.store(is_last, Ordering::SeqCst);
    }
}

/// The numbers of the signals that this process does not ignore since its start; all if the system does not report them.
fn not_ignored(signals: &[Signal]) -> Vec<i32> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    let numbers = signals.iter().map(|signal| signal.as_raw());
    numbers.filter(|number| ignored & (1_u64 << (number - 1)) == 0).collect()
}

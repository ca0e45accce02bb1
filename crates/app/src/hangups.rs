//! [`Hangups`]: the SIGHUPs of a process, from its first moments on.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// The SIGHUPs since [`Hangups::register`]. A clone has all that this one has not waited for.
#[derive(Clone, Debug)]
pub struct Hangups(watch::Receiver<()>);

impl Hangups {
    /// Registers for SIGHUP, which would otherwise end the process. In a runtime.
    ///
    /// # Errors
    /// When no handler can be registered.
    pub fn register() -> io::Result<Self> {
        let mut signals = signal(SignalKind::hangup())?;
        let (sender, received) = watch::channel(());
        tokio::spawn(async move {
            while signals.recv().await.is_some() {
                sender.send_replace(());
            }
        });
        Ok(Self(received))
    }

    /// Waits for one. Several since the last call count as one. `None`: the runtime ends.
    pub(super) async fn next(&mut self) -> Option<()> {
        self.0.changed().await.ok()
    }
}

//! A progress indicator for waits longer than a second: on standard error, and only if that is a
//! terminal.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use crate::cli::output;

/// Shorter waits have no indicator.
const SHOWN_AFTER: Duration = Duration::from_secs(1);
const TURN_EVERY: Duration = Duration::from_millis(120);
const TURNS: [char; 4] = ['|', '/', '-', '\\'];
/// To the beginning of the line, and wipes it.
const WIPE: &str = "\r\u{1b}[K";

/// The indicator's line; `Drop` wipes it.
struct Sign<W: Write> {
    to: W,
    what: String,
    shown: bool,
    colours: bool,
}

/// Awaits the work, and shows what it waits for on a terminal.
pub(crate) async fn during<T>(what: &str, work: impl Future<Output = T>) -> T {
    match io::stderr().is_terminal() {
        true => {
            let colours = output::wants_colours();
            let sign = Sign { to: io::stderr(), what: what.to_owned(), shown: false, colours };
            shown(sign, work).await
        }
        false => work.await,
    }
}

async fn shown<T, W: Write>(mut sign: Sign<W>, work: impl Future<Output = T>) -> T {
    tokio::pin!(work);
    let begin = tokio::time::Instant::now() + SHOWN_AFTER;
    let mut tick = tokio::time::interval_at(begin, TURN_EVERY);
    let mut turns = TURNS.iter().cycle();
    loop {
        tokio::select! {
            biased;
            done = &mut work => return done,
            _ = tick.tick() => sign.turn(*turns.next().unwrap_or(&' ')),
        }
    }
}

impl<W: Write> Sign<W> {
    fn turn(&mut self, turn: char) {
        self.shown = true;
        let (dim, plain) = if self.colours { ("\u{1b}[2m", "\u{1b}[0m") } else { ("", "") };
        // An error means that the terminal is closed.
        let _ = write!(self.to, "{WIPE}{dim}{turn} {}{plain}", self.what);
        let _ = self.to.flush();
    }
}

impl<W: Write> Drop for Sign<W> {
    fn drop(&mut self) {
        if self.shown {
            let _ = write!(self.to, "{WIPE}");
            let _ = self.to.flush();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::*;

    #[derive(Clone, Default)]
    struct WaitScreen(Rc<RefCell<Vec<u8>>>);

    impl Write for WaitScreen {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.borrow_mut().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What a terminal sees of work that takes as long.
    async fn seen(takes: Duration, colours: bool) -> String {
        let screen = WaitScreen::default();
        let sign = Sign { to: screen.clone(), what: "testing".into(), shown: false, colours };
        let work = async move {
            let _never = tokio::time::timeout(takes, std::future::pending::<()>()).await;
            7
        };
        assert_eq!(shown(sign, work).await, 7);
        let bytes = screen.0.borrow().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_of_less_than_a_second_shows_nothing() {
        assert_eq!(seen(Duration::from_millis(999), true).await, "");
    }

    #[tokio::test(start_paused = true)]
    async fn a_longer_wait_shows_a_spinner_and_clears_its_line() {
        let seen = seen(Duration::from_millis(1_200), false).await;
        assert!(seen.starts_with("\r\u{1b}[K| testing\r\u{1b}[K/ testing"), "{seen:?}");
        assert!(seen.ends_with("\r\u{1b}[K"), "{seen:?}");
        assert!(!seen.contains("\u{1b}[2m"), "no colours were wanted: {seen:?}");
    }
}

//! A program on a pseudo-terminal: input and output of a user. Linux reports end of file when the last user of
//! the terminal has closed it.

use std::fs::File;
use std::io::{Read, Write};
use std::process::Command;
use std::sync::{Arc, Condvar, Mutex};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use super::process::OwnChild;
use super::wire::PATIENCE;

/// A child at a terminal of its own. Killed when dropped.
pub struct Terminal {
    child: OwnChild,
    keyboard: File,
    /// Its other end, which keeps the reader.
    user: Option<File>,
    screen: Arc<(Mutex<Screen>, Condvar)>,
    /// Up to where the test has read.
    read: usize,
}

#[derive(Default)]
struct Screen {
    text: String,
    is_over: bool,
}

impl Terminal {
    /// Starts the command at it.
    pub fn start(command: Command) -> Self {
        Self::of_columns(command, 100)
    }

    /// The same, at one of 80 columns.
    pub fn narrow(command: Command) -> Self {
        Self::of_columns(command, 80)
    }

    /// Starts the command at one that is this wide.
    pub fn of_columns(mut command: Command, columns: u16) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&master).and_then(|()| unlockpt(&master)).expect("a terminal of ours");
        let name = ptsname(&master, vec![]).expect("it has a name").into_string().expect("UTF-8");
        let user = File::options().read(true).write(true).open(name).expect("its other end");
        let size = Winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&user, size).expect("a size");
        let end = || user.try_clone().expect("a descriptor");
        let child = command.stdin(end()).stdout(end()).stderr(end()).spawn().expect("it starts");
        let keyboard = File::from(master);
        let screen = Arc::new((Mutex::new(Screen::default()), Condvar::new()));
        let (shown, mut master) =
            (Arc::clone(&screen), keyboard.try_clone().expect("a descriptor"));
        std::thread::spawn(move || {
            let (mut bytes, mut unread) = ([0; 4096], Vec::new());
            while let Ok(count @ 1..) = master.read(&mut bytes) {
                unread.extend_from_slice(&bytes[..count]);
                // A character may come in two pieces.
                let whole = match std::str::from_utf8(&unread) {
                    Err(error) if error.error_len().is_none() => error.valid_up_to(),
                    _ => unread.len(),
                };
                let mut screen = shown.0.lock().expect("not poisoned");
                screen.text.push_str(&String::from_utf8_lossy(&unread[..whole]));
                unread.drain(..whole);
                shown.1.notify_all();
            }
            shown.0.lock().expect("not poisoned").is_over = true;
            shown.1.notify_all();
        });
        // Dropped, or the end would never come.
        drop(command);
        Self { child: OwnChild::from(child), keyboard, user: Some(user), screen, read: 0 }
    }

    /// Waits until `text` is shown, after what was waited for before.
    ///
    /// # Panics
    /// With all that is shown, when it does not come.
    pub fn shows(&mut self, text: &str) {
        let (screen, changed) = &*self.screen;
        let screen = screen.lock().expect("not poisoned");
        let is_missing = |screen: &mut Screen| !screen.text[self.read..].contains(text);
        let waited = changed.wait_timeout_while(screen, PATIENCE, is_missing);
        let (screen, _) = waited.expect("not poisoned");
        let found = screen.text[self.read..].find(text);
        let found = found.unwrap_or_else(|| panic!("no `{text}` in:\n{}", screen.text));
        self.read += found + text.len();
    }

    /// Whether `text` has been shown.
    pub fn has(&self, text: &str) -> bool {
        self.screen.0.lock().expect("not poisoned").text.contains(text)
    }

    /// Waits for `text`, and answers what stands behind it on its line.
    pub fn rest_of(&mut self, text: &str) -> String {
        self.shows(text);
        let from = self.read;
        self.shows("\n");
        let screen = self.screen.0.lock().expect("not poisoned");
        screen.text[from..self.read].trim().to_owned()
    }

    /// Types.
    pub fn types(&mut self, text: &str) {
        self.keyboard.write_all(text.as_bytes()).expect("it reads");
    }

    /// Shows `text` as [`shows`](Self::shows) waits for it, and gets `typed`.
    pub fn asks(&mut self, text: &str, typed: &str) {
        self.shows(text);
        self.types(typed);
    }

    /// Sends a signal to the program.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).expect("our child");
    }

    /// Whether typing is echoed, as a shell left it.
    pub fn echoes(&self) -> bool {
        tcgetattr(&self.keyboard).expect("a terminal").local_modes.contains(LocalModes::ECHO)
    }

    /// Waits for the end with this exit code: all that was shown.
    pub fn ends_with(self, code: i32) -> String {
        let (found, shown) = self.ends();
        assert_eq!(found, Some(code), "{shown}");
        shown
    }

    /// Waits for the end: exit code, and all that was shown.
    ///
    /// # Panics
    /// With all that is shown, when it does not end: it may wait for an answer.
    pub fn ends(mut self) -> (Option<i32>, String) {
        // The program is the last user of the terminal: the reader ends with it.
        drop(self.user.take());
        let (shown, changed) = &*self.screen;
        let shown = shown.lock().expect("not poisoned");
        let ended = changed.wait_timeout_while(shown, PATIENCE, |screen| !screen.is_over);
        let (screen, waited) = ended.expect("not poisoned");
        let text = screen.text.clone();
        drop(screen);
        let status = match waited.timed_out() {
            // A process that it started may still have the terminal.
            true => self.child.try_wait().expect("our child"),
            false => Some(self.child.wait().expect("our child")),
        };
        let status = status.unwrap_or_else(|| panic!("it does not end:\n{text}"));
        assert!(self.echoes(), "the terminal is as it was");
        (status.code(), text)
    }
}

/// What stands on a screen after this output: lines that the program wrote over or wiped are gone.
pub fn screen(output: &str) -> String {
    let mut lines = vec![String::new()];
    let mut rest = output;
    while let Some(char) = rest.chars().next() {
        rest = &rest[char.len_utf8()..];
        match char {
            '\n' => lines.push(String::new()),
            // Programs of ours begin a line again only to wipe it.
            '\r' if rest.starts_with('\n') => {}
            '\r' => lines.last_mut().expect("a line").clear(),
            '\u{1b}' => {
                let end = rest.find(|c: char| c.is_ascii_alphabetic()).expect("a sequence");
                let (parameters, command) = (&rest[1..end], &rest[end..=end]);
                if command == "A" {
                    let up = parameters.parse().unwrap_or(1);
                    lines.truncate(lines.len() - up);
                    lines.last_mut().expect("a line").clear();
                }
                rest = &rest[end + 1..];
            }
            char => lines.last_mut().expect("a line").push(char),
        }
    }
    lines.join("\n")
}

//! A program on a pseudo-terminal: input and output of a user. Linux reports end of file when the last user of
//! the terminal has closed it.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command};
use std::sync::{Arc, Condvar, Mutex};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use super::wire::PATIENCE;

/// A child at a terminal of its own. Killed when dropped.
pub(crate) struct Terminal {
    child: Child,
    keyboard: File,
    user: File,
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
    pub(crate) fn start(command: Command) -> Self {
        Self::start_at(command, 100)
    }

    /// Starts the command at a terminal of this width.
    pub(crate) fn start_at(mut command: Command, columns: u16) -> Self {
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
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = master.read(&mut bytes) {
                let mut screen = shown.0.lock().expect("not poisoned");
                screen.text.push_str(&String::from_utf8_lossy(&bytes[..count]));
                shown.1.notify_all();
            }
            shown.0.lock().expect("not poisoned").is_over = true;
            shown.1.notify_all();
        });
        // Dropped, or the end would never come.
        drop(command);
        Self { child, keyboard, user, screen, read: 0 }
    }

    /// Waits until `text` is shown, after what was waited for before.
    ///
    /// # Panics
    /// With all that is shown, when it does not come.
    pub(crate) fn shows(&mut self, text: &str) {
        let (screen, changed) = &*self.screen;
        let screen = screen.lock().expect("not poisoned");
        let is_missing = |screen: &mut Screen| !screen.text[self.read..].contains(text);
        let waited = changed.wait_timeout_while(screen, PATIENCE, is_missing);
        let (screen, _) = waited.expect("not poisoned");
        let found = screen.text[self.read..].find(text);
        let found = found.unwrap_or_else(|| panic!("no `{text}` in:\n{}", screen.text));
        self.read += found + text.len();
    }

    /// Waits for `text`, and answers what stands behind it on its line.
    pub(crate) fn rest_of(&mut self, text: &str) -> String {
        self.shows(text);
        let from = self.read;
        self.shows("\n");
        let screen = self.screen.0.lock().expect("not poisoned");
        screen.text[from..self.read].trim().to_owned()
    }

    /// Types.
    pub(crate) fn types(&mut self, text: &str) {
        self.keyboard.write_all(text.as_bytes()).expect("it reads");
    }

    /// Sends a signal to the program.
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw);
        rustix::process::kill_process(pid.expect("a process id"), signal).expect("our child");
    }

    /// Whether typing is echoed, as a shell left it.
    pub(crate) fn echoes(&self) -> bool {
        tcgetattr(&self.user).expect("a terminal").local_modes.contains(LocalModes::ECHO)
    }

    /// Waits for the end: exit code, and all that was shown.
    pub(crate) fn ends(mut self) -> (Option<i32>, String) {
        let code = self.child.wait().expect("our child").code();
        assert!(self.echoes(), "the terminal is as it was");
        let Self { user, screen, .. } = &mut self;
        // The last user of the terminal: its reader comes to an end.
        *user = File::open(std::env::current_exe().expect("us")).expect("a file");
        let (shown, changed) = &**screen;
        let shown = shown.lock().expect("not poisoned");
        let ended = changed.wait_timeout_while(shown, PATIENCE, |screen| !screen.is_over);
        let text = ended.expect("not poisoned").0.text.clone();
        (code, text)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

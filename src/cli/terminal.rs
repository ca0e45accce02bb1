//! Terminal prompts: a choice from a list, a line, a secret without echo. Ctrl-C is read as a key, and signals that
//! end a process as Ctrl-C, so that the terminal is restored and unfinished work is rolled back. Crates for prompts
//! leave the cursor hidden or the echo off after Ctrl-C, or bring a dozen more crates.

pub(super) mod confirm;
pub(super) mod fold;
pub(super) mod secret;
pub(super) mod table;
pub(super) mod wait;

use std::io::{self, Stdin, Write};

use rustix::termios::{
    InputModes, LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr,
};
use unicode_width::UnicodeWidthChar;
use zeroize::Zeroizing;

use super::failure::{Exit, Failure};
use super::signals::Signals;
use fold::columns;

/// Rows of a list on the screen.
const ROWS_MAX: usize = 8;
/// Lists of at most this many items have no filter.
const FILTERED_ABOVE: usize = 4;
/// 16 KiB: the longest secret that is taken. The buffer never grows, so no copy is left behind.
const SECRET_BYTES_MAX: usize = 16 * 1024;
/// Tenths of a second to wait for the rest of a paste or of a key's escape sequence.
const REST_WITHIN: u8 = 1;

/// A terminal in raw mode; `Drop` restores its settings.
struct Raw {
    stdin: Stdin,
    before: Termios,
    signals: Signals,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum TerminalKey {
    Char(char),
    Enter,
    Backspace,
    /// Ctrl-U.
    Wipe,
    Up,
    Down,
    /// Ctrl-C, Ctrl-D, a signal, or a terminal that is gone.
    Interrupt,
    Other,
}

/// The state of a choice.
struct List<'a> {
    label: &'a str,
    items: &'a [String],
    filter: String,
    at: usize,
}

/// The failure after Ctrl-C.
pub(crate) fn interrupted() -> Failure {
    Failure::new(Exit::Interrupted, "interrupted: nothing was stored")
}

/// Reads a secret of one line without echo.
///
/// # Errors
/// When the user stops, or the input is empty, too long or more than one line.
pub(crate) fn secret(label: &str) -> Result<Zeroizing<String>, Failure> {
    optional_secret(label)?.ok_or_else(|| {
        let what = label.trim_end_matches(" (not shown)");
        Failure::usage(format!("{what} is empty"))
            .hint("paste it, then Enter: nothing is shown while you paste")
    })
}

/// The same; `None` for an empty line.
pub(crate) fn optional_secret(label: &str) -> Result<Option<Zeroizing<String>>, Failure> {
    let read = Raw::begin().and_then(|mut raw| {
        // After echo is disabled: the user may paste as soon as the question is shown.
        show(&format!("{label}: "));
        raw.line()
    });
    show("\n");
    let (bytes, whole) = match read {
        Ok(Some(read)) => read,
        Ok(None) => return Err(interrupted()),
        Err(error) => return Err(Failure::failed("cannot read from the terminal", &error)),
    };
    if !whole {
        return Err(Failure::usage(format!(
            "{label}: the input is more than one line, or longer than 16 KiB"
        ))
        .hint("read it from a file: --secret-file FIELD=PATH"));
    }
    let text = std::str::from_utf8(&bytes);
    let text = text.map_err(|_| Failure::usage(format!("{label} is not UTF-8")))?;
    Ok((!text.is_empty()).then(|| Zeroizing::new(text.to_owned())))
}

/// Reads a line with echo, trimmed; it may be empty.
///
/// # Errors
/// When the user stops.
pub(crate) fn text(label: &str) -> Result<String, Failure> {
    let read = Raw::begin().and_then(|mut raw| {
        show(&format!("{label}: "));
        raw.shown_line(label)
    });
    show("\n");
    match read {
        Ok(Some(text)) => Ok(text.trim().to_owned()),
        Ok(None) => Err(interrupted()),
        Err(error) => Err(Failure::failed("cannot read from the terminal", &error)),
    }
}

/// Asks for one of `items`; typing filters the list. Returns its index.
///
/// # Errors
/// When the user stops.
pub(crate) fn choose(label: &str, items: &[String]) -> Result<usize, Failure> {
    let mut list = List { label, items, filter: String::new(), at: 0 };
    let chosen = Raw::begin().and_then(|mut raw| list.chosen(&mut raw));
    let chosen =
        chosen.map_err(|error| Failure::failed("cannot read from the terminal", &error))?;
    let Some(place) = chosen else { return Err(interrupted()) };
    show(&format!("{label}: {}\n", items[place]));
    Ok(place)
}

impl Raw {
    fn begin() -> io::Result<Self> {
        let stdin = io::stdin();
        let before = tcgetattr(&stdin)?;
        let mut modes = before.clone();
        modes.local_modes &=
            !(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG | LocalModes::IEXTEN);
        modes.input_modes &= !(InputModes::ICRNL | InputModes::IXON);
        modes.special_codes[SpecialCodeIndex::VMIN] = 1;
        modes.special_codes[SpecialCodeIndex::VTIME] = 0;
        let signals = Signals::ending()?;
        // Input that was typed ahead is kept: a paste may have begun.
        tcsetattr(&stdin, OptionalActions::Now, &modes)?;
        Ok(Self { stdin, before, signals })
    }

    /// Waits for a byte; `None` when a signal comes first, or the terminal is gone.
    fn byte(&mut self) -> io::Result<Option<u8>> {
        if self.signals.wait_for_signal_or_input(&self.stdin)? { Ok(None) } else { self.read() }
    }

    /// A byte; `None` when there is none, or the terminal is gone.
    fn read(&self) -> io::Result<Option<u8>> {
        let mut byte = [0];
        loop {
            match rustix::io::read(&self.stdin, &mut byte) {
                Ok(0) | Err(rustix::io::Errno::IO) => return Ok(None),
                Ok(_) => return Ok(Some(byte[0])),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// A byte that is available at once, or none.
    fn rest(&mut self) -> io::Result<Option<u8>> {
        self.wait(0, REST_WITHIN)?;
        let byte = self.read();
        self.wait(1, 0)?;
        byte
    }

    fn wait(&self, bytes_min: u8, tenths: u8) -> io::Result<()> {
        let mut modes = tcgetattr(&self.stdin)?;
        modes.special_codes[SpecialCodeIndex::VMIN] = bytes_min;
        modes.special_codes[SpecialCodeIndex::VTIME] = tenths;
        Ok(tcsetattr(&self.stdin, OptionalActions::Now, &modes)?)
    }

    fn key(&mut self) -> io::Result<TerminalKey> {
        let Some(first) = self.byte()? else { return Ok(TerminalKey::Interrupt) };
        Ok(match first {
            b'\r' | b'\n' => TerminalKey::Enter,
            0x03 | 0x04 => TerminalKey::Interrupt,
            0x08 | 0x7f => TerminalKey::Backspace,
            0x15 => TerminalKey::Wipe,
            0x1b => self.sequence()?,
            0x00..0x20 => TerminalKey::Other,
            first => self.char(first)?,
        })
    }

    /// Arrows are `ESC [ A` or `ESC O A`.
    fn sequence(&mut self) -> io::Result<TerminalKey> {
        let Some(b'[' | b'O') = self.rest()? else { return Ok(TerminalKey::Other) };
        loop {
            match self.rest()? {
                Some(b'A') => return Ok(TerminalKey::Up),
                Some(b'B') => return Ok(TerminalKey::Down),
                // Parameters go on.
                Some(b'0'..=b'9' | b';') => {}
                _ => return Ok(TerminalKey::Other),
            }
        }
    }

    fn char(&mut self, first: u8) -> io::Result<TerminalKey> {
        let length = match first {
            ..0x80 => 1,
            0xc2..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf4 => 4,
            _ => return Ok(TerminalKey::Other),
        };
        let mut bytes = vec![first];
        while bytes.len() < length {
            let Some(byte) = self.rest()? else { return Ok(TerminalKey::Other) };
            bytes.push(byte);
        }
        let text = std::str::from_utf8(&bytes).ok().and_then(|text| text.chars().next());
        Ok(text.map_or(TerminalKey::Other, TerminalKey::Char))
    }

    /// Reads a line with echo; `None` if the user stops.
    fn shown_line(&mut self, label: &str) -> io::Result<Option<String>> {
        let mut line = String::new();
        loop {
            match self.key()? {
                TerminalKey::Interrupt => return Ok(None),
                TerminalKey::Enter => return Ok(Some(line)),
                TerminalKey::Char(char) => {
                    line.push(char);
                    show(char.encode_utf8(&mut [0; 4]));
                }
                key @ (TerminalKey::Backspace | TerminalKey::Wipe) => {
                    let kept = line.chars().count().saturating_sub(1);
                    line = if key == TerminalKey::Wipe { "" } else { &line }
                        .chars()
                        .take(kept)
                        .collect();
                    show(&format!("\r\u{1b}[K{label}: {line}"));
                }
                TerminalKey::Up | TerminalKey::Down | TerminalKey::Other => {}
            }
        }
    }

    /// Reads a line, and whether the input ended with it; `None` if the user stops.
    fn line(&mut self) -> io::Result<Option<(Zeroizing<Vec<u8>>, bool)>> {
        let mut line = Zeroizing::new(Vec::with_capacity(SECRET_BYTES_MAX));
        loop {
            match self.byte()? {
                None | Some(0x03 | 0x04) => return Ok(None),
                Some(b'\r' | b'\n') => break,
                // The last character may have several bytes.
                Some(0x08 | 0x7f) => while line.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {},
                Some(0x15) => line.clear(),
                Some(byte) if line.len() < SECRET_BYTES_MAX => line.push(byte),
                Some(_) => {
                    self.nothing_more()?;
                    return Ok(Some((line, false)));
                }
            }
        }
        Ok(Some((line, self.nothing_more()?)))
    }

    /// Discards the rest of a paste, which would otherwise be echoed.
    fn nothing_more(&mut self) -> io::Result<bool> {
        let mut is_all = true;
        while let Some(byte) = self.rest()? {
            is_all &= matches!(byte, b'\r' | b'\n');
        }
        Ok(is_all)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing.
        let _ = tcsetattr(&self.stdin, OptionalActions::Now, &self.before);
    }
}

impl List<'_> {
    fn chosen(&mut self, raw: &mut Raw) -> io::Result<Option<usize>> {
        loop {
            let frame = self.frame(columns(io::stderr()));
            show(&frame);
            let key = raw.key()?;
            // Back to its first line, and wiped.
            show(&format!("\r\u{1b}[{}A\u{1b}[J", frame.matches('\n').count()));
            match key {
                TerminalKey::Interrupt => return Ok(None),
                TerminalKey::Enter => {
                    if let Some(place) = self.found().get(self.at) {
                        return Ok(Some(*place));
                    }
                }
                key => self.take(key),
            }
        }
    }

    fn take(&mut self, key: TerminalKey) {
        let last = self.found().len().saturating_sub(1);
        match key {
            TerminalKey::Up => self.at = self.at.checked_sub(1).unwrap_or(last),
            TerminalKey::Down if self.at < last => self.at += 1,
            TerminalKey::Down => self.at = 0,
            TerminalKey::Char(char) if self.is_filtered() => {
                self.filter.push(char);
                self.at = 0;
            }
            TerminalKey::Backspace => {
                self.filter.pop();
                self.at = 0;
            }
            TerminalKey::Wipe => {
                self.filter.clear();
                self.at = 0;
            }
            TerminalKey::Char(_)
            | TerminalKey::Enter
            | TerminalKey::Interrupt
            | TerminalKey::Other => {}
        }
    }

    /// Whether typing filters the list. A short list has no filter: a secret that is pasted at such a question must
    /// not be shown.
    fn is_filtered(&self) -> bool {
        self.items.len() > FILTERED_ABOVE
    }

    /// The indexes of the items that match the filter; those that begin with it come first.
    fn found(&self) -> Vec<usize> {
        let filter = self.filter.to_lowercase();
        let holding = |(place, item): (usize, &String)| {
            let found = item.to_lowercase().find(&filter)?;
            Some((found > 0, place))
        };
        let mut found: Vec<_> = self.items.iter().enumerate().filter_map(holding).collect();
        if filter.is_empty() {
            found.iter_mut().for_each(|(later, _)| *later = false);
        }
        found.sort_unstable();
        found.into_iter().map(|(_, place)| place).collect()
    }

    fn frame(&self, columns: usize) -> String {
        let found = self.found();
        let cut = |line: String| cut(&line, columns.saturating_sub(1));
        let mut frame = match self.is_filtered() {
            true => cut(format!("{} (type to filter): {}", self.label, self.filter)) + "\n",
            false => cut(format!("{} (arrows, Enter)", self.label)) + "\n",
        };
        let first = (self.at + 1).saturating_sub(ROWS_MAX);
        for (row, place) in found.iter().enumerate().skip(first).take(ROWS_MAX) {
            let mark = if row == self.at { ">" } else { " " };
            frame += &(cut(format!("{mark} {}", self.items[*place])) + "\n");
        }
        match found.len() {
            0 => frame += "  no match: Ctrl-U clears the filter\n",
            all if all > ROWS_MAX => frame += &format!("  {all} in total\n"),
            _ => {}
        }
        frame
    }
}

/// The beginning of a line that fits into so many columns.
fn cut(line: &str, columns: usize) -> String {
    let mut taken = 0;
    let fits = |c: &char| {
        taken += c.width().unwrap_or(0);
        taken <= columns
    };
    line.chars().take_while(fits).collect()
}

fn show(text: &str) {
    let mut terminal = io::stderr().lock();
    // A terminal that is gone ends the reading.
    let _ = terminal.write_all(text.as_bytes()).and_then(|()| terminal.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items() -> Vec<String> {
        ["Airtable", "GitHub", "GitLab", "Legit", "Stripe"].map(str::to_owned).into()
    }

    fn typed(items: &[String], keys: &[TerminalKey]) -> Option<String> {
        let mut list = List { label: "provider", items, filter: String::new(), at: 0 };
        keys.iter().for_each(|key| list.take(*key));
        list.found().get(list.at).map(|place| items[*place].clone())
    }

    #[test]
    fn a_filter_without_matches_selects_no_item() {
        assert_eq!(typed(&items(), &[TerminalKey::Char('x'), TerminalKey::Char('y')]), None);
        assert_eq!(typed(&[], &[TerminalKey::Down, TerminalKey::Up]), None);
    }

    #[test]
    fn text_pasted_into_a_short_list_is_neither_shown_nor_a_filter() {
        let items = ["paste it again", "it is correct"].map(str::to_owned);
        let mut list = List { label: "now", items: &items, filter: String::new(), at: 0 };
        "sk-canary".chars().for_each(|key| list.take(TerminalKey::Char(key)));
        assert!(!list.frame(80).contains("canary"), "{}", list.frame(80));
        assert_eq!(list.found().len(), 2, "and nothing is ruled out by it");
    }

    #[test]
    fn typing_filters_the_list_and_arrow_keys_wrap_around() {
        let git = ['G', 'i', 't'].map(TerminalKey::Char);
        let then = |more: &[TerminalKey]| typed(&items(), &[&git[..], more].concat()).unwrap();
        assert_eq!(then(&[]), "GitHub", "what begins with it goes first");
        assert_eq!(then(&[TerminalKey::Down, TerminalKey::Down]), "Legit");
        assert_eq!(then(&[TerminalKey::Up]), "Legit");
        assert_eq!(then(&[TerminalKey::Down, TerminalKey::Down, TerminalKey::Down]), "GitHub");
        assert_eq!(then(&[TerminalKey::Down, TerminalKey::Char('l')]), "GitLab");
        assert_eq!(then(&[TerminalKey::Wipe]), "Airtable");
    }

    #[test]
    fn a_line_is_cut_by_display_width() {
        assert_eq!(cut("東京 a", 4), "東京");
        assert_eq!(cut("東京 a", 3), "東");
        assert_eq!(cut("abc", 4), "abc");
    }

    #[test]
    fn a_long_list_shows_the_rows_around_the_choice_and_no_line_wraps() {
        let items: Vec<String> = (0..20).map(|n| format!("{n} {}", "long ".repeat(30))).collect();
        let list = List { label: "provider", items: &items, filter: String::new(), at: 12 };
        let frame = list.frame(20);
        assert!(frame.lines().all(|line| line.len() < 20), "{frame}");
        assert!(frame.contains("\n> 12 long") && frame.contains("20 in total"), "{frame}");
        assert_eq!(frame.lines().count(), 2 + ROWS_MAX);
    }
}

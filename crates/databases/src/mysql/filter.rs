//! [`MysqlFilter`] reads the kind of each command of an agent, writes statements to the audit log, and replaces what a session may
//! not send. The replacement is a statement that raises the refusal at the server, so that nothing has to be put between the server's answers.

use std::io;
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};

use super::packet::packet;
use super::statements::check::check;
use super::statements::{tokens, unwrapped};
use crate::rules::{CHANGES_LOGIN, Dialect, EnforcedSettings, changes_login};
use crate::sql::masked;
use crate::stream::{LONG_STATEMENT_BYTES, StreamFilter};
use keyward_proxy::StatementLog;

/// The length of a packet that the next one continues, in bytes.
const CONTINUED_BYTES: usize = 0xff_ffff;

const COM_QUERY: u8 = 0x03;

/// The longest statement that is read, in bytes.
const STATEMENT_BYTES_MAX: usize = 1024 * 1024;

/// `COM_QUERY` and `COM_STMT_PREPARE`: a statement follows.
const STATEMENTS: [u8; 2] = [COM_QUERY, 0x16];

/// The word of a statement for which the client sends a file.
const LOAD: &[u8] = b"load";

/// What is recorded of a statement that is not read.
const TOO_LONG: &str = "(longer than 1 MiB)";

/// The longest `MESSAGE_TEXT` of `SIGNAL`, in characters.
const WORDS_MAX: usize = 128;

/// Commands that a session with checked statements may send: quit, choose a database, statements and their results,
/// statistics, ping, and the execution of a prepared statement with many rows. `COM_RESET_CONNECTION` is not among them: it
/// would reset the session's mode and string syntax.
const READING: &[u8] =
    &[0x01, 0x02, COM_QUERY, 0x04, 0x09, 0x0e, 0x16, 0x17, 0x18, 0x19, 0x1a, 0x1b, 0x1c, 0xfa];

/// What names a database or a table: `COM_INIT_DB`, `COM_FIELD_LIST`.
const NAMING: &[u8] = &[0x02, 0x04];

/// Checks the packets of an agent.
#[derive(Debug, Default)]
pub struct MysqlFilter {
    /// `None`: every statement may be sent that does not change a password.
    kept: Option<EnforcedSettings>,
    log: Option<StatementLog>,
    /// The packet of a statement that is read, as far as it has come.
    statement: Vec<u8>,
    /// The header, and the first byte of the payload where that decides.
    begun: Vec<u8>,
    /// What is missing of the packet, and whether it is passed on.
    missing: usize,
    refused: bool,
    previous: PreviousPacket,
    files: FilePackets,
}

/// Whether packets may come that are no commands: those of a file that the server loads from the client.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum FilePackets {
    /// Always: nothing is checked that they could evade.
    #[default]
    Passed,
    /// Behind a statement that may load a file.
    Logged { loads: bool },
    /// Never: statements that load files are refused.
    Refused,
}

impl FilePackets {
    fn may_come(self) -> bool {
        matches!(self, Self::Passed | Self::Logged { loads: true })
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct PreviousPacket {
    number: u8,
    length: usize,
}

impl PreviousPacket {
    /// Whether the next packet continues this one. A file that is loaded from the client has more than 256 packets, whose
    /// numbers begin with 0 again; it ends with an empty one.
    fn is_continued(self, files: FilePackets) -> bool {
        let is_of_file = self.number == u8::MAX && self.length > 0 && files.may_come();
        self.length == CONTINUED_BYTES || is_of_file
    }
}

/// Why a command is refused. The others pass: what they do is the user's right at the server.
fn refusal(command: u8) -> Option<&'static str> {
    match command {
        0x11 => Some("a session cannot change its user"),
        0x12 | 0x15 | 0x1e => Some("replication is not possible through Keyward"),
        0x13 | 0x20 | 0x21 => Some("copies of a server are not possible through Keyward"),
        // Of servers themselves, and of a protocol extension that was not agreed on.
        0x0b | 0x0f | 0x10 | 0x14 | 0xfe => Some("the command is not for clients"),
        _ => None,
    }
}

impl MysqlFilter {
    /// `kept`: what the session keeps. `log`: where its statements are recorded.
    pub fn new(kept: Option<EnforcedSettings>, log: Option<StatementLog>) -> Self {
        let files = match (&kept, &log) {
            (Some(_), _) => FilePackets::Refused,
            (None, Some(_)) => FilePackets::Logged { loads: false },
            (None, None) => FilePackets::Passed,
        };
        Self { kept, log, files, ..Self::default() }
    }

    fn refusal(&self, command: u8, length: usize) -> Option<&'static str> {
        if let Some(reason) = refusal(command) {
            return Some(reason);
        }
        let kept = self.kept.as_ref()?;
        if !READING.contains(&command) {
            return Some("the session may not send this command");
        }
        if kept.fixes_path() && NAMING.contains(&command) {
            return Some("databases and tables are named in statements only");
        }
        let is_long = STATEMENTS.contains(&command) && length > STATEMENT_BYTES_MAX;
        is_long.then_some("the statement is longer than 1 MiB")
    }

    fn record(&mut self, statement: String, is_refused: bool) {
        if let Some(log) = &mut self.log {
            log.add(statement, is_refused);
        }
    }

    /// Whether a command with a statement is read as a whole.
    fn is_read(&mut self, command: Option<u8>, length: usize, is_refused: bool) -> bool {
        if !command.is_some_and(|command| STATEMENTS.contains(&command)) {
            return false;
        }
        if length > STATEMENT_BYTES_MAX {
            self.record(TOO_LONG.to_owned(), is_refused);
        }
        length <= STATEMENT_BYTES_MAX
    }
}

impl StreamFilter for MysqlFilter {
    fn feed(&mut self, mut bytes: &[u8], checked: &mut BytesMut) -> io::Result<()> {
        while !bytes.is_empty() {
            if self.missing > 0 {
                let take = self.missing.min(bytes.len());
                if !self.statement.is_empty() {
                    self.statement.extend_from_slice(&bytes[..take]);
                } else if !self.refused {
                    checked.extend_from_slice(&bytes[..take]);
                }
                bytes.advance(take);
                self.missing -= take;
                self.end_statement(checked);
                continue;
            }
            self.begun.push(bytes[0]);
            bytes.advance(1);
            self.begin(checked)?;
        }
        Ok(())
    }

    fn takes_long(&self, bytes: &[u8]) -> bool {
        let is_complete = !self.statement.is_empty() && self.missing <= bytes.len();
        let reads_all = self.kept.is_some() || self.log.is_some();
        is_complete && reads_all && self.statement.len() + self.missing >= LONG_STATEMENT_BYTES
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.log {
            Some(log) => log.poll_sent(cx),
            None => Poll::Ready(Ok(())),
        }
    }
}

impl MysqlFilter {
    /// # Errors
    /// When the packet is out of order: a proxy before the server may take it for a command, whatever its number is.
    fn begin(&mut self, checked: &mut BytesMut) -> io::Result<()> {
        let [a, b, c, number, first @ ..] = &self.begun[..] else { return Ok(()) };
        let length = u32::from_le_bytes([*a, *b, *c, 0]) as usize;
        let continues = self.previous.is_continued(self.files);
        // Answers to the server within a command have other numbers.
        let is_command = *number == 0 && !continues;
        if !is_command && !continues && !self.files.may_come() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        if is_command && length > 0 && first.is_empty() {
            return Ok(());
        }
        let command = first.first().copied().filter(|_| is_command);
        let reason = command.and_then(|command| self.refusal(command, length));
        // What continues a refused command is refused with it.
        self.refused = reason.is_some() || (continues && self.refused);
        let (number, first_bytes) = (*number, first.len());
        if is_command && let FilePackets::Logged { loads } = &mut self.files {
            *loads = false;
        }
        let is_read = self.is_read(command, length, reason.is_some());
        match reason {
            Some(reason) => {
                let kept = self.kept.as_ref().map(EnforcedSettings::refuser);
                checked.extend_from_slice(&refused(kept, reason));
            }
            None if self.refused => {}
            None if is_read => self.statement.clone_from(&self.begun),
            None => checked.extend_from_slice(&self.begun),
        }
        self.missing = length - first_bytes;
        self.previous = PreviousPacket { number, length };
        self.begun.clear();
        self.end_statement(checked);
        Ok(())
    }

    /// Checks and records a statement when its packet is complete.
    fn end_statement(&mut self, checked: &mut BytesMut) {
        if self.missing > 0 || self.statement.is_empty() {
            return;
        }
        let packet = std::mem::take(&mut self.statement);
        let text = &packet[5..];
        if packet[4] == COM_QUERY
            && let FilePackets::Logged { loads } = &mut self.files
        {
            // It may be behind another statement, in a comment that servers run, or in the text of another statement.
            *loads = text.windows(LOAD.len()).any(|word| word.eq_ignore_ascii_case(LOAD));
        }
        let refusal = match &self.kept {
            Some(kept) => check(text, kept).err().map(|reason| (Some(kept.refuser()), reason)),
            None => changes_login(Dialect::Mysql, text, |text| tokens(&unwrapped(text)).ok())
                .then_some((None, CHANGES_LOGIN.into())),
        };
        if self.log.is_some() {
            let readable = unwrapped(text);
            let shown = masked(&readable, tokens(&readable).ok().as_deref());
            self.record(shown, refusal.is_some());
        }
        match refusal {
            Some((refuser, reason)) => checked.extend_from_slice(&refused(refuser, &reason)),
            None => checked.extend_from_slice(&packet),
        }
    }
}

/// A statement that fails with the reason. `refuser`: what it begins with, where a setting of the connection refuses.
fn refused(refuser: Option<&str>, reason: &str) -> Vec<u8> {
    tracing::debug!(reason, "a command was refused");
    let refuser = refuser.map(|refuser| format!("{refuser}: ")).unwrap_or_default();
    let words: String = format!("keyward: {refuser}{reason}").chars().take(WORDS_MAX).collect();
    // 1227: ER_SPECIFIC_ACCESS_DENIED_ERROR.
    let text = format!("SIGNAL SQLSTATE '42000' SET MYSQL_ERRNO = 1227, MESSAGE_TEXT = '{words}'");
    packet(0, &[&[COM_QUERY], text.as_bytes()].concat())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::rules::StatementRules;
    use keyward_base::settings::{NamePattern, Settings};

    /// What the server gets, if the session does not end.
    fn passed(mut filter: MysqlFilter, bytes: &[u8], piece: usize) -> io::Result<Vec<u8>> {
        let mut checked = BytesMut::new();
        bytes.chunks(piece).try_for_each(|piece| filter.feed(piece, &mut checked))?;
        Ok(checked.to_vec())
    }

    fn fed(bytes: &[u8], piece: usize) -> Vec<u8> {
        passed(MysqlFilter::default(), bytes, piece).unwrap()
    }

    fn read_only() -> MysqlFilter {
        let kept = EnforcedSettings { read_only: true, ..EnforcedSettings::default() };
        MysqlFilter::new(Some(kept), None)
    }

    #[test]
    fn permitted_commands_pass_unchanged_in_pieces_of_any_size() {
        let mut all = [
            packet(0, b"\x03SELECT 1"),
            packet(0, b"\x0e"),
            packet(0, b"\x03LOAD DATA LOCAL INFILE 'x' INTO TABLE t"),
        ]
        .concat();
        // A file whose packets look like commands; their numbers begin with 0 again.
        (2..=600_u16).for_each(|number| {
            all.extend(packet(number.to_le_bytes()[0], b"\x11 not a command"));
        });
        let last = 601_u16.to_le_bytes()[0];
        all.extend(packet(last, b""));
        all.extend(packet(0, b"\x01"));
        for piece in [1, 4, 5, 1000, 1_000_000] {
            assert_eq!(fed(&all, piece), all, "{piece}");
        }
    }

    #[test]
    fn a_refused_command_becomes_a_statement_that_fails_in_pieces_of_any_size() {
        let around = packet(0, b"\x03SELECT 1");
        for (command, says) in [
            (&b"\x11root\0"[..], "cannot change its user"),
            (b"\x11", "cannot change its user"),
            (b"\x12\0\0\0\0", "replication"),
            (b"\x15\0\0\0\0", "replication"),
            (b"\x1e\0\0\0\0", "replication"),
            (b"\x20", "copies of a server"),
            (b"\xfe", "not for clients"),
            (b"\x03SET PASSWORD = 'x'", "cannot change a password"),
            (b"\x16ALTER USER app IDENTIFIED BY 'x'", "cannot change a password"),
        ] {
            let all = [&around[..], &packet(0, command), &around].concat();
            for piece in [1, 6, 4096] {
                let sent = fed(&all, piece);
                let sent = sent.strip_prefix(&*around).unwrap().strip_suffix(&*around).unwrap();
                let text = String::from_utf8_lossy(&sent[5..]).into_owned();
                assert!(sent[4] == COM_QUERY && text.starts_with("SIGNAL"), "{text}");
                assert!(text.contains(says), "{text}");
                assert_eq!(usize::from(sent[0]) + 4, sent.len());
            }
        }
    }

    #[test]
    fn a_read_only_session_sends_statements_that_read_in_pieces_of_any_size() {
        let fed = |bytes: &[u8], piece: usize| passed(read_only(), bytes, piece).unwrap();
        let around = [&b"\x03SELECT 1"[..], b"\x16SELECT ?", b"\xfa\0\0\0\0", b"\x0e"]
            .map(|it| packet(0, it))
            .concat();
        let long = [b"\x03".to_vec(), vec![b' '; STATEMENT_BYTES_MAX]].concat();
        for (command, says) in [
            (&b"\x03DELETE FROM t"[..], "only statements that read"),
            (b"\x16DELETE FROM t", "only statements that read"),
            (b"\x03SET tx_read_only = 0", "this setting cannot be changed"),
            (b"\x1f", "the session may not send this command"),
            (b"\x05x", "the session may not send this command"),
            (b"\xfb", "the session may not send this command"),
            (b"\x11root\0", "cannot change its user"),
            (&long, "1 MiB"),
        ] {
            let all = [&around[..], &packet(0, command), &around].concat();
            for piece in [1, 6, 4096] {
                let sent = fed(&all, piece);
                let sent = sent.strip_prefix(&*around).unwrap().strip_suffix(&*around).unwrap();
                let text = String::from_utf8_lossy(&sent[5..]).into_owned();
                assert!(text.starts_with("SIGNAL") && text.contains(says), "{text}");
            }
        }
    }

    /// The chosen database decides which function a name without one is.
    #[test]
    fn a_session_chooses_no_other_database_if_a_function_is_listed_without_one() {
        let limited = |function: &str| {
            let functions = Some([function.parse::<NamePattern>().unwrap()].into());
            let settings = Settings { functions, ..Settings::default() };
            let rules = StatementRules::of(&settings, Dialect::Mysql).map(Arc::new);
            MysqlFilter::new(Some(EnforcedSettings { rules, ..EnforcedSettings::default() }), None)
        };
        for naming in [&b"\x02private"[..], b"\x04orders\0"] {
            let sent = packet(0, naming);
            let refused = passed(limited("slugify"), &sent, 4096).unwrap();
            let text = String::from_utf8_lossy(&refused[5..]).into_owned();
            let is_refused = text.starts_with("SIGNAL") && text.contains("in statements only");
            assert!(is_refused, "{text}");
            assert_eq!(passed(limited("app.slugify"), &sent, 4096).unwrap(), sent);
        }
    }

    /// ProxySQL runs a command with any number.
    #[test]
    fn a_command_out_of_order_ends_a_session_whose_statements_are_checked() {
        let insert = b"\x03INSERT INTO t VALUES (1)";
        let before = packet(0, b"\x03SELECT 1");
        let load = packet(0, b"\x03LOAD DATA LOCAL INFILE 'x' INTO TABLE t");
        let load_refused = passed(read_only(), &load, 4096).unwrap();
        assert!(load_refused[5..].starts_with(b"SIGNAL"));
        for (out_of_order, passes) in [
            (packet(1, insert), vec![]),
            (packet(255, insert), vec![]),
            ([packet(255, b"x"), packet(0, insert)].concat(), vec![]),
            ([load, packet(2, insert)].concat(), load_refused),
            ([packet(1, b""), packet(0, insert)].concat(), vec![]),
        ] {
            let all = [&before[..], &out_of_order].concat();
            for piece in [1, 6, 4096] {
                let mut filter = read_only();
                let mut checked = BytesMut::new();
                let fed = all.chunks(piece).try_for_each(|it| filter.feed(it, &mut checked));
                assert_eq!(fed.map_err(|error| error.kind()), Err(io::ErrorKind::InvalidData));
                assert_eq!(checked[..], [&before[..], &passes].concat());
            }
        }
        let long = [vec![0x17], vec![b'x'; CONTINUED_BYTES - 1]].concat();
        let continued = [packet(0, &long), packet(1, b"\x03rest"), before].concat();
        assert_eq!(passed(read_only(), &continued, 100_000).unwrap(), continued);
    }

    #[test]
    fn a_session_with_recorded_statements_sends_a_file_only_behind_a_statement_that_loads_one() {
        let logged = || MysqlFilter {
            files: FilePackets::Logged { loads: false },
            ..MysqlFilter::default()
        };
        let mut file: Vec<u8> = (2..=600_u16)
            .flat_map(|number| packet(number.to_le_bytes()[0], b"\x03 of a file"))
            .collect();
        file.extend(packet(601_u16.to_le_bytes()[0], b""));
        for text in ["load data local infile 'x' into table t", "SELECT 1; LOAD DATA LOCAL …"] {
            let load = packet(0, &[&[COM_QUERY], text.as_bytes()].concat());
            let all = [load, file.clone(), packet(0, b"\x03SELECT 1")].concat();
            assert_eq!(passed(logged(), &all, 7).unwrap(), all);
            let later = [&all[..], &packet(1, b"\x03DELETE FROM t")].concat();
            assert!(passed(logged(), &later, 7).is_err(), "{text}");
        }
        let other = [packet(0, b"\x03SELECT 1"), file].concat();
        assert!(passed(logged(), &other, 7).is_err());
        assert!(passed(logged(), &packet(1, b"\x03DELETE FROM t"), 7).is_err());
    }

    #[test]
    fn the_continuation_packets_of_a_refused_command_are_refused_with_it() {
        let mut long = vec![0x11];
        long.resize(CONTINUED_BYTES, b'x');
        let after = packet(0, b"\x03SELECT 1");
        let all = [packet(0, &long), packet(1, b"\x11rest"), after.clone()].concat();
        let sent = fed(&all, 100_000);
        assert!(sent.ends_with(&after) && sent.len() < 300, "{}", sent.len());
    }

    #[test]
    fn the_last_piece_of_a_long_statement_takes_long_and_no_other_piece_does() {
        let query =
            |length: usize| packet(0, &[b"\x03SELECT ".to_vec(), vec![b'1'; length]].concat());
        let (long, short) = (query(LONG_STATEMENT_BYTES), query(1_000));
        let mut filter = read_only();
        let mut checked = BytesMut::new();
        for (piece, takes_long) in [
            (&short[..700], false),
            (&short[700..], false),
            (&long[..10_000], false),
            (&long[10_000..16_000], false),
            (&long[16_000..], true),
            (&short[..], false),
        ] {
            assert_eq!(filter.takes_long(piece), takes_long, "{}", piece.len());
            filter.feed(piece, &mut checked).unwrap();
        }
        assert_eq!(checked[..], [&short[..], &long, &short].concat());
    }
}

//! Which commands a session may send, by their names and subcommands. The names are data: `refused.txt` is for all sessions,
//! `read_only.txt` for read-only ones.

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::lists::lines;

/// The longest name of a command or subcommand that is looked up, in bytes.
pub const NAME_BYTES_MAX: usize = 64;

/// The arguments of `HELLO` and `COPY` that are read.
const READ_ARGUMENTS_MAX: usize = 8;

/// The arguments that are read of a command that only some of them make write.
const READ_OPTIONS_MAX: usize = 64;

/// The arguments of a `COPY` without options: its name and two keys.
const COPY_ARGUMENTS: usize = 3;

/// What a session may send.
#[derive(Clone, Debug)]
pub struct RedisAccess {
    /// The number of the connection's database.
    pub database: u32,
    /// Whether only commands that read pass.
    pub read_only: bool,
}

/// The decision about a command.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum RedisVerdict {
    Passes,
    /// It is refused, with these words.
    Refused(String),
    /// More of its arguments are needed.
    Undecided,
}

/// Which subcommands a line of `refused.txt` names.
#[derive(Debug)]
struct RedisRefusal {
    all: bool,
    /// Those that are refused, or with `all` those that are not.
    named: Vec<&'static str>,
    reason: &'static str,
}

static REFUSED: LazyLock<HashMap<&'static str, RedisRefusal>> =
    LazyLock::new(|| lines(include_str!("refused.txt")).map(refusal).collect());

/// Each with the arguments by which it writes.
static READING: LazyLock<HashMap<&'static str, Vec<&'static str>>> =
    LazyLock::new(|| lines(include_str!("read_only.txt")).map(reading).collect());

fn refusal(line: &'static str) -> (&'static str, RedisRefusal) {
    let mut columns = line.split('|').map(str::trim);
    let mut column = || columns.next().expect("each line has three columns: a test reads them all");
    let (name, subcommands, reason) = (column(), column(), column());
    let mut words = subcommands.split_whitespace();
    let all = subcommands.starts_with('*');
    let named = words.by_ref().filter(|word| !matches!(*word, "*" | "but")).collect();
    (name, RedisRefusal { all, named, reason })
}

fn reading(line: &'static str) -> (&'static str, Vec<&'static str>) {
    let (name, writing) = line.split_once(" but ").unwrap_or((line, ""));
    (name, writing.split_whitespace().collect())
}

impl RedisAccess {
    /// Decides about a command of `count` arguments that begins with `head`.
    pub fn verdict<A: AsRef<[u8]>>(&self, head: &[A], count: usize) -> RedisVerdict {
        let mut head = head.iter().map(AsRef::as_ref);
        let Some(name) = head.next() else { return RedisVerdict::Undecided };
        let Some(name) = word(name) else {
            return RedisVerdict::Refused(
                "keyward: a command without a name is refused".to_owned(),
            );
        };
        let rest: Vec<&[u8]> = head.collect();
        match &*name {
            "HELLO" => return hello(&rest, count),
            // A read-only session sends none.
            "COPY" if !self.read_only => return self.copy(&rest, count),
            "SELECT" => return self.select(&rest, count),
            _ => {}
        }
        let subcommand = match (rest.first(), count) {
            (Some(subcommand), _) => word(subcommand),
            (None, 0 | 1) => None,
            (None, _) if has_subcommands(&name) => return RedisVerdict::Undecided,
            (None, _) => None,
        };
        if let Some(refusal) = REFUSED.get(&*name)
            && refusal.covers(subcommand.as_deref())
        {
            return refused(&name, refusal.reason);
        }
        let pair = subcommand.map(|subcommand| format!("{name} {subcommand}"));
        let known = READING.get(&*name).or_else(|| READING.get(&*pair?));
        match known {
            _ if !self.read_only => RedisVerdict::Passes,
            Some(writing) if writing.is_empty() => RedisVerdict::Passes,
            Some(writing) => unread(&name, &rest, count, READ_OPTIONS_MAX)
                .unwrap_or_else(|| reads(&name, &rest, writing)),
            None => refused(&name, "the connection is read-only"),
        }
    }

    /// `SELECT index`. Only the connection's own number is permitted; clients send it because its URL contains it.
    fn select(&self, rest: &[&[u8]], count: usize) -> RedisVerdict {
        match rest {
            [] if count > 1 => RedisVerdict::Undecided,
            [number, ..] if self.is_database(number) => RedisVerdict::Passes,
            _ => self.of_another_database("SELECT"),
        }
    }

    /// `COPY source destination [DB destination-db] [REPLACE]`. Like `SELECT`, it may name only the connection's own number.
    fn copy(&self, rest: &[&[u8]], count: usize) -> RedisVerdict {
        // One option can only be `REPLACE`.
        if count <= COPY_ARGUMENTS + 1 {
            return RedisVerdict::Passes;
        }
        if let Some(undecided) = unread("COPY", rest, count, READ_ARGUMENTS_MAX) {
            return undecided;
        }
        let names_another =
            |pair: &[&[u8]]| pair[0].eq_ignore_ascii_case(b"DB") && !self.is_database(pair[1]);
        match rest[COPY_ARGUMENTS - 1..].windows(2).any(names_another) {
            true => self.of_another_database("COPY"),
            false => RedisVerdict::Passes,
        }
    }

    fn is_database(&self, number: &[u8]) -> bool {
        number == self.database.to_string().as_bytes()
    }

    fn of_another_database(&self, name: &str) -> RedisVerdict {
        refused(name, &format!("the connection is for database {}", self.database))
    }
}

/// The verdict while not all arguments of a command are known, or when they are too many.
fn unread(name: &str, rest: &[&[u8]], count: usize, max: usize) -> Option<RedisVerdict> {
    if count > max {
        return Some(refused(name, "it has too many arguments"));
    }
    (rest.len() + 1 < count).then_some(RedisVerdict::Undecided)
}

/// The verdict about a command of a read-only session that these arguments behind its key make write.
fn reads(name: &str, rest: &[&[u8]], writing: &[&str]) -> RedisVerdict {
    let writes =
        |argument: &&[u8]| writing.iter().any(|it| it.as_bytes().eq_ignore_ascii_case(argument));
    match rest.iter().skip(1).find(|argument| writes(argument)) {
        Some(_) => refused(name, "the connection is read-only, and an argument makes it write"),
        None => RedisVerdict::Passes,
    }
}

/// `HELLO` may change the version of the protocol, not the login.
fn hello(rest: &[&[u8]], count: usize) -> RedisVerdict {
    if let Some(undecided) = unread("HELLO", rest, count, READ_ARGUMENTS_MAX) {
        return undecided;
    }
    // A client may be named `AUTH` too, but no real client is.
    match rest.iter().any(|argument| argument.eq_ignore_ascii_case(b"AUTH")) {
        true => refused("HELLO", "the session is logged in already"),
        false => RedisVerdict::Passes,
    }
}

impl RedisRefusal {
    fn covers(&self, subcommand: Option<&str>) -> bool {
        let is_named = subcommand.is_some_and(|it| self.named.contains(&it));
        self.all != is_named
    }
}

fn has_subcommands(name: &str) -> bool {
    let refused = REFUSED.get(name).is_some_and(|refusal| !refusal.named.is_empty());
    refused || READING.keys().any(|it| it.strip_prefix(name).is_some_and(|it| it.starts_with(' ')))
}

/// A name in upper case, if it can be one.
fn word(bytes: &[u8]) -> Option<String> {
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    if bytes.is_empty() || bytes.len() > NAME_BYTES_MAX || !bytes.iter().all(is_name) {
        return None;
    }
    String::from_utf8(bytes.to_ascii_uppercase()).ok()
}

fn refused(name: &str, reason: &str) -> RedisVerdict {
    RedisVerdict::Refused(format!("keyward: {name} is refused: {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(allowed: &RedisAccess, command: &str) -> RedisVerdict {
        let all: Vec<&str> = command.split(' ').collect();
        // As the filter asks: with each argument more.
        for known in 1..=all.len() {
            match allowed.verdict(&all[..known], all.len()) {
                RedisVerdict::Undecided => {}
                decided => return decided,
            }
        }
        panic!("undecided: {command}")
    }

    const WRITES: RedisAccess = RedisAccess { database: 3, read_only: false };
    const READS: RedisAccess = RedisAccess { database: 3, read_only: true };

    #[test]
    fn commands_that_reach_others_or_the_server_or_read_credentials_are_refused() {
        for command in [
            "CONFIG",
            "config GET requirepass",
            "CoNfIg SET dir /",
            "CONFIG HELP",
            "ACL",
            "ACL LIST",
            "acl getuser x",
            "ACL SETUSER x",
            "MONITOR",
            "SLOWLOG GET",
            "slowlog get 20",
            "COMMANDLOG GET 1 slow",
            "DEBUG SLEEP 1",
            "MIGRATE h 1 k 0 1",
            "REPLICAOF h 1",
            "SLAVEOF h 1",
            "MODULE LOAD x",
            "MODULE LIST",
            "SHUTDOWN",
            "SYNC",
            "PSYNC ? -1",
            "FAILOVER",
            "CLIENT KILL x",
            "client kill ID 3",
            "CLIENT PAUSE 1",
            "CLIENT UNBLOCK 3",
            "client unblock 3 ERROR",
            "BGREWRITEAOF",
            "BGSAVE SCHEDULE",
            "SAVE",
            "FUNCTION FLUSH",
            "function delete mine",
            "FUNCTION RESTORE x FLUSH",
            "FUNCTION KILL",
            "SCRIPT KILL",
            "SCRIPT DEBUG SYNC",
            "LATENCY RESET",
            "MEMORY PURGE",
            "SLOWLOG RESET",
            "COMMANDLOG RESET slow",
            "FT.CONFIG SET TIMEOUT 1",
            "CLUSTER MEET h 1",
            "CLUSTER RESET",
            "SENTINEL MASTERS",
            "FLUSHALL",
            "flushall ASYNC",
            "config|get x",
        ] {
            assert!(matches!(verdict(&WRITES, command), RedisVerdict::Refused(_)), "{command}");
        }
        let RedisVerdict::Refused(words) = verdict(&WRITES, "config get x") else {
            panic!("refused")
        };
        assert_eq!(
            words,
            "keyward: CONFIG is refused: it reads and changes passwords of the server"
        );
    }

    #[test]
    fn commands_for_another_database_are_refused() {
        for command in [
            "SELECT 0",
            "SELECT 03",
            "SELECT x",
            "SELECT",
            "MOVE k 1",
            "SWAPDB 0 1",
            "COPY a b DB 0",
            "copy a b replace db 0",
            "COPY a b DB 3 REPLACE DB 0",
            "COPY a b DB 03",
            "COPY DB DB DB DB",
            "COPY a b DB 3 DB 3 DB 3",
        ] {
            assert!(matches!(verdict(&WRITES, command), RedisVerdict::Refused(_)), "{command}");
        }
    }

    #[test]
    fn logins_are_refused() {
        for command in [
            "AUTH x",
            "AUTH x y",
            "RESET",
            "HELLO 3 AUTH u p",
            "HELLO 3 SETNAME x auth u p",
            "HELLO 1 2 3 4 5 6 7 8",
        ] {
            assert!(matches!(verdict(&WRITES, command), RedisVerdict::Refused(_)), "{command}");
        }
    }

    #[test]
    fn commands_that_clients_need_pass() {
        for command in [
            "GET k",
            "SET k v",
            "PING",
            "HELLO",
            "HELLO 3",
            "HELLO 2 SETNAME x",
            "SELECT 3",
            "COPY a b",
            "COPY a b REPLACE",
            "COPY a b DB 3",
            "copy db 0 db 3 replace",
            "CLIENT SETINFO lib-name x",
            "CLIENT ID",
            "CLIENT LIST",
            "ACL WHOAMI",
            "CLUSTER SLOTS",
            "COMMAND",
            "COMMAND DOCS",
            "INFO",
            "EVAL x 0",
            "EVALSHA x 0",
            "SCRIPT LOAD x",
            "SCRIPT EXISTS x",
            "SCRIPT FLUSH",
            "FCALL f 0",
            "FUNCTION LOAD x",
            "FUNCTION LIST",
            "MEMORY USAGE k",
            "LATENCY LATEST",
            "FT.CONFIG GET *",
            "MULTI",
            "EXEC",
            "SUBSCRIBE c",
            "JSON.GET k",
            "FT.SEARCH i q",
            "QUIT",
            "SORT k BY w_* STORE d",
            "BITFIELD k SET u8 0 1",
            "PUBLISH c m",
            "SLOWLOG LEN",
            "CLIENT",
            "FLUSHDB",
            "FLUSHDB ASYNC",
        ] {
            assert_eq!(verdict(&WRITES, command), RedisVerdict::Passes, "{command}");
        }
    }

    #[test]
    fn a_read_only_session_sends_only_commands_that_are_known_to_read() {
        for command in [
            "GET k",
            "MGET a b",
            "SCAN 0",
            "HGETALL h",
            "XRANGE s - +",
            "PING",
            "HELLO 3",
            "SELECT 3",
            "CLIENT SETNAME x",
            "MULTI",
            "EXEC",
            "SUBSCRIBE c",
            "COMMAND DOCS",
            "OBJECT ENCODING k",
            "EVAL_RO x 0",
            "SORT k",
            "sort store by w_* limit 0 5 get # get o_* asc alpha",
            "BITFIELD k GET u8 0 GET u4 #1",
            "GEORADIUS k 1 1 1 m WITHCOORD",
            "FUNCTION LIST WITHCODE",
        ] {
            assert_eq!(verdict(&READS, command), RedisVerdict::Passes, "{command}");
        }
        for command in [
            "SET k v",
            "DEL k",
            "GETDEL k",
            "GETEX k",
            "GETSET k v",
            "EVAL x 0",
            "EVALSHA x 0",
            "FCALL f 0",
            "SORT k STORE d",
            "sort k by w_* limit 0 5 get # get o_* asc alpha store d",
            "FLUSHALL",
            "SCRIPT LOAD x",
            "FUNCTION LOAD x",
            "PUBLISH c m",
            "XREADGROUP GROUP g c STREAMS s >",
            "SPOP k",
            "GEORADIUS k 1 1 1 m STORE x",
            "GEORADIUSBYMEMBER k a 1 m STOREDIST x",
            "BITFIELD k SET u8 0 1",
            "BITFIELD k GET u8 0 incrby u8 0 1",
            "SPUBLISH c m",
            "FUNCTION DELETE x",
            "JSON.GET k",
            "UNKNOWN",
            "CLIENT KILL x",
            "CLIENT NO-SUCH",
            "CONFIG GET x",
            "RESTORE k 0 x",
            "COPY a b",
            "SAVE",
            "OBJECT",
        ] {
            assert!(matches!(verdict(&READS, command), RedisVerdict::Refused(_)), "{command}");
        }
    }

    #[test]
    fn the_command_lists_parse_and_each_refusal_fits_into_a_redis_error() {
        for (name, refusal) in &*REFUSED {
            assert!(
                !refusal.reason.is_empty() && (refusal.all || !refusal.named.is_empty()),
                "{name}"
            );
            // Redis cuts names in its errors after 128 bytes.
            let RedisVerdict::Refused(words) = refused(name, refusal.reason) else {
                panic!("refused")
            };
            assert!(words.len() <= 128, "{words}");
        }
        assert!(READING.len() > 100, "{}", READING.len());
        assert!(READING.keys().all(|it| !REFUSED.get(it).is_some_and(|it| it.all)));
    }
}

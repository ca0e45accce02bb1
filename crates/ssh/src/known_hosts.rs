//! Host keys of servers, as `known_hosts` files and `ssh-keyscan` write them (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT).
//! Hashed names and patterns are refused, because rules and records name hosts.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::public_key::HostKey;
use keyward_base::host::{Scheme, Target};

/// The port of SSH.
const PORT: u16 = 22;

/// Bounds of one connection's list.
const HOSTS_MAX: usize = 100;

/// The host keys of some servers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KnownHosts(Vec<KnownHost>);

/// A server with one of its host keys.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KnownHost {
    /// Host and port. Its scheme has no meaning.
    pub target: Target,
    /// The host key, in the protocol's form.
    pub key: Vec<u8>,
}

/// Why a text is no list of host keys.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum KnownHostsError {
    /// It has no host key.
    #[error(
        "there is no host key; copy what `ssh-keyscan HOST` prints, and compare it with what the host's owner publishes"
    )]
    Empty,
    /// The name is hashed.
    #[error("the host's name is hashed; copy what `ssh-keyscan HOST` prints")]
    Hashed,
    /// The name is a pattern, or not a name.
    #[error("`{0}` is not a host; write HOST or [HOST]:PORT")]
    Name(String),
    /// The key cannot be used.
    #[error("the host key of {0} is damaged, or of a kind that is not supported")]
    Key(String),
    /// Certificate authorities and revoked keys.
    #[error("lines that begin with `@` are not supported")]
    Marker,
    /// The list is too long.
    #[error("there are more than {HOSTS_MAX} host keys")]
    TooMany,
}

impl KnownHosts {
    /// Reads lines; line breaks may have become blanks on the way.
    ///
    /// # Errors
    /// When one of them cannot be used, or there is none.
    pub fn parse(text: &str) -> Result<Self, KnownHostsError> {
        let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
        let words: Vec<&str> = lines.flat_map(str::split_whitespace).collect();
        if words.iter().any(|word| word.starts_with('@')) {
            return Err(KnownHostsError::Marker);
        }
        let mut found = Vec::new();
        for at in 1..words.len() {
            if !is_key_type(words[at]) {
                continue;
            }
            let (names, key) = (words[at - 1], words.get(at + 1).copied().unwrap_or_default());
            let damaged = || KnownHostsError::Key(names.to_owned());
            let key = BASE64_STANDARD.decode(key).map_err(|_| damaged())?;
            HostKey::parse(&key).map_err(|_| damaged())?;
            for name in names.split(',') {
                found.push(KnownHost { target: target(name)?, key: key.clone() });
            }
        }
        match found.len() {
            0 => Err(KnownHostsError::Empty),
            1..=HOSTS_MAX => Ok(Self(found)),
            _ => Err(KnownHostsError::TooMany),
        }
    }

    /// The servers that have the host key.
    pub fn with_key<'a>(&'a self, key: &'a [u8]) -> impl Iterator<Item = &'a Target> {
        self.0.iter().filter(move |known| known.key == key).map(|known| &known.target)
    }

    /// All servers, each once for each of its keys.
    pub fn all(&self) -> impl Iterator<Item = &KnownHost> {
        self.0.iter()
    }
}

fn is_key_type(word: &str) -> bool {
    ["ssh-ed25519", "ssh-rsa"].contains(&word) || word.starts_with("ecdsa-sha2-")
}

/// `HOST`, or `[HOST]:PORT`.
fn target(name: &str) -> Result<Target, KnownHostsError> {
    if name.starts_with('|') {
        return Err(KnownHostsError::Hashed);
    }
    let refused = || KnownHostsError::Name(name.to_owned());
    let (host, port) = match name.strip_prefix('[').and_then(|rest| rest.rsplit_once("]:")) {
        Some((host, port)) => (host, port.parse::<u16>().map_err(|_| refused())?),
        None => (name, PORT),
    };
    let authority = match host.contains(':') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    };
    Target::parse(Scheme::Https, &authority).map_err(|_| refused())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::private_key::tests::{KEYS, key};

    fn line(names: &str) -> String {
        format!("{names} {}", key(KEYS[0]).public_line())
    }

    #[test]
    fn a_line_without_a_plain_host_or_a_valid_key_is_refused() {
        for (bad, why) in [
            (String::new(), "there is no host key"),
            ("git.test".to_owned(), "there is no host key"),
            ("# a comment".to_owned(), "there is no host key"),
            (line("|1|abc=|def="), "hashed"),
            (line("*.git.test"), "is not a host"),
            (line("!git.test"), "is not a host"),
            (line("[git.test]:0"), "is not a host"),
            (line("[git.test]:ssh"), "is not a host"),
            (line("@cert-authority git.test"), "begin with `@`"),
            ("git.test ssh-ed25519 AAAA".to_owned(), "damaged"),
            ("git.test ssh-rsa".to_owned(), "damaged"),
        ] {
            let error = KnownHosts::parse(&bad).expect_err(&bad).to_string();
            assert!(error.contains(why), "{bad}: {error}");
        }
    }

    #[test]
    fn hosts_are_found_by_their_keys() {
        let other = format!("other.test {}", key(KEYS[1]).public_line());
        let text = format!("# one\n{} comment\n{other}", line("git.test,[10.0.0.1]:2222"));
        for text in [text.clone(), text.replace("# one\n", "").replace('\n', " ")] {
            let known = KnownHosts::parse(&text).expect("hosts");
            let of = |at: usize| {
                let key = key(KEYS[at]);
                let found = known.with_key(key.public());
                found.map(|it| format!("{}:{}", it.host(), it.port())).collect::<Vec<_>>()
            };
            assert_eq!(of(0), ["git.test:22", "10.0.0.1:2222"]);
            assert_eq!(of(1), ["other.test:22"]);
            assert_eq!(of(2), [""; 0]);
        }
    }
}

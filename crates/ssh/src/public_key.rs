//! Host keys of servers: verification of their signatures, by Ed25519 (RFC 8709), ECDSA (RFC 5656) and RSA with SHA-2
//! (RFC 8332), and the keys as `known_hosts` files and `ssh-keyscan` write them (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT).
//! Certificates of hosts and RSA with SHA-1 are not accepted. Hashed names and patterns are refused, because rules and
//! records name hosts.

use aws_lc_rs::rsa::PublicKeyComponents;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED, ED25519,
    EcdsaVerificationAlgorithm, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA512,
    UnparsedPublicKey,
};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::wire::{MalformedMessage, WireReader};
use keyward_base::host::{Scheme, Target};

/// The port of SSH.
const PORT: u16 = 22;

/// Bounds of one connection's list.
const HOSTS_MAX: usize = 100;

#[derive(Debug)]
pub struct HostKey<'a>(KeyKind<'a>);

#[derive(Debug)]
enum KeyKind<'a> {
    Ed25519(&'a [u8]),
    Ecdsa { curve: &'static Curve, point: &'a [u8] },
    Rsa { e: &'a [u8], n: &'a [u8] },
}

/// A curve of ECDSA.
#[derive(Debug)]
struct Curve {
    key_type: &'static str,
    name: &'static str,
    /// Bytes of each of the two numbers of a signature.
    number_bytes: usize,
    algorithm: &'static EcdsaVerificationAlgorithm,
}

const CURVES: &[Curve] = &[
    Curve {
        key_type: "ecdsa-sha2-nistp256",
        name: "nistp256",
        number_bytes: 32,
        algorithm: &ECDSA_P256_SHA256_FIXED,
    },
    Curve {
        key_type: "ecdsa-sha2-nistp384",
        name: "nistp384",
        number_bytes: 48,
        algorithm: &ECDSA_P384_SHA384_FIXED,
    },
    Curve {
        key_type: "ecdsa-sha2-nistp521",
        name: "nistp521",
        number_bytes: 66,
        algorithm: &ECDSA_P521_SHA512_FIXED,
    },
];

impl<'a> HostKey<'a> {
    /// Parses a public key in the protocol's form.
    ///
    /// # Errors
    /// When it is malformed, or of another kind.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, MalformedMessage> {
        let mut reader = WireReader::new(bytes);
        let kind = match reader.text()? {
            "ssh-ed25519" => KeyKind::Ed25519(reader.string()?),
            "ssh-rsa" => KeyKind::Rsa { e: reader.integer()?, n: reader.integer()? },
            other => {
                let curve =
                    CURVES.iter().find(|curve| curve.key_type == other).ok_or(MalformedMessage)?;
                if reader.text()? != curve.name {
                    return Err(MalformedMessage);
                }
                KeyKind::Ecdsa { curve, point: reader.string()? }
            }
        };
        reader.end()?;
        Ok(Self(kind))
    }

    /// Whether it has signed the text.
    pub fn verifies(&self, text: &[u8], signature: &[u8]) -> bool {
        self.verify(text, signature).unwrap_or(false)
    }

    fn verify(&self, text: &[u8], signature: &[u8]) -> Result<bool, MalformedMessage> {
        let mut reader = WireReader::new(signature);
        let (algorithm, blob) = (reader.text()?, reader.string()?);
        reader.end()?;
        Ok(match &self.0 {
            KeyKind::Ed25519(key) => {
                let is_it = algorithm == "ssh-ed25519";
                is_it && UnparsedPublicKey::new(&ED25519, key).verify(text, blob).is_ok()
            }
            KeyKind::Ecdsa { curve, point } => {
                let fixed = curve.fixed(blob)?;
                let key = UnparsedPublicKey::new(curve.algorithm, point);
                algorithm == curve.key_type && key.verify(text, &fixed).is_ok()
            }
            KeyKind::Rsa { e, n } => {
                let by = match algorithm {
                    "rsa-sha2-256" => &RSA_PKCS1_2048_8192_SHA256,
                    "rsa-sha2-512" => &RSA_PKCS1_2048_8192_SHA512,
                    _ => return Ok(false),
                };
                PublicKeyComponents { n, e }.verify(by, text, blob).is_ok()
            }
        })
    }
}

impl Curve {
    /// Both numbers of a signature, one after the other.
    fn fixed(&self, blob: &[u8]) -> Result<Vec<u8>, MalformedMessage> {
        let mut reader = WireReader::new(blob);
        let mut out = Vec::with_capacity(2 * self.number_bytes);
        for _ in 0..2 {
            let number = reader.integer()?;
            let padding = self.number_bytes.checked_sub(number.len()).ok_or(MalformedMessage)?;
            out.resize(out.len() + padding, 0);
            out.extend_from_slice(number);
        }
        reader.end()?;
        Ok(out)
    }
}

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
    use crate::agent::RsaHash;
    use crate::private_key::tests::{KEYS, key};
    use crate::wire::put_string;

    #[test]
    fn a_signature_of_another_text_or_key_or_with_sha1_does_not_verify() {
        for (at, text) in KEYS.iter().enumerate() {
            let (own, other) = (key(text), key(KEYS[(at + 1) % KEYS.len()]));
            let signature = own.sign(b"text", RsaHash::Sha256).expect("a signature");
            let public = HostKey::parse(own.public()).expect("a key");
            assert!(public.verifies(b"text", &signature));
            assert!(!public.verifies(b"texts", &signature));
            assert!(!HostKey::parse(other.public()).expect("a key").verifies(b"text", &signature));
            let mut old = Vec::new();
            put_string(&mut old, b"ssh-rsa");
            put_string(
                &mut old,
                WireReader::new(&signature[4 + algorithm_len(&signature)..])
                    .string()
                    .expect("a blob"),
            );
            assert!(!public.verifies(b"text", &old));
        }
    }

    fn algorithm_len(signature: &[u8]) -> usize {
        WireReader::new(signature).string().expect("a name").len()
    }

    #[test]
    fn a_host_key_of_an_unsupported_algorithm_is_refused() {
        for name in ["ssh-dss", "ssh-ed25519-cert-v01@openssh.com", "sk-ssh-ed25519@openssh.com"] {
            let mut bytes = Vec::new();
            put_string(&mut bytes, name.as_bytes());
            put_string(&mut bytes, &[0; 32]);
            assert!(HostKey::parse(&bytes).is_err(), "{name}");
        }
    }

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

//! Reads secrets from a prompt without echo, standard input, or a file. Never from an argument, which
//! every process of the machine can read.

use std::fmt;
use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::path::Path;

use serde::{Serialize, Serializer};
use zeroize::Zeroizing;

use crate::cli::failure::Failure;

/// Longest secret that is read: the API takes bodies of this size.
const SECRET_BYTES_MAX: usize = 1024 * 1024;

/// A secret on its way into a request. Wiped when dropped; `Debug` shows nothing.
#[derive(Clone)]
pub(crate) struct Typed(Zeroizing<String>);

impl Typed {
    /// Reads all of standard input, without a byte order mark and the final line end.
    pub(crate) fn from_stdin() -> Result<Self, Failure> {
        Self::read(io::stdin().lock(), "standard input")
    }

    /// Reads a whole file, without a byte order mark and the final line end.
    pub(crate) fn from_file(path: &Path) -> Result<Self, Failure> {
        let name = path.display().to_string();
        let file = File::open(path)
            .map_err(|error| Failure::failed(&format!("cannot read {name}"), &error))?;
        Self::read(file, &name)
    }

    /// The output of another program, without a byte order mark and the final line end.
    pub(crate) fn from_output(bytes: &[u8], program: &str) -> Result<Self, Failure> {
        Self::read(bytes, program)
    }

    /// Reads an environment variable.
    pub(crate) fn from_variable(name: &str) -> Result<Self, Failure> {
        let unset = || {
            Failure::usage(format!("the environment variable {name} is not set"))
                .hint("export it, or give the secret on standard input: --secret-stdin")
        };
        let text = std::env::var_os(name).ok_or_else(unset)?;
        let text = text.into_string();
        let text = text.map_err(|_| Failure::usage(format!("{name} is not UTF-8")))?;
        Self::filled(Zeroizing::new(text), name)
    }

    /// Reads from the terminal, without echo.
    pub(crate) fn from_prompt(label: &str) -> Result<Self, Failure> {
        super::secret(label).map(Self)
    }

    /// The same; `None` for an empty line.
    pub(crate) fn maybe_from_prompt(label: &str) -> Result<Option<Self>, Failure> {
        Ok(super::optional_secret(label)?.map(Self))
    }

    fn read(from: impl Read, name: &str) -> Result<Self, Failure> {
        // One byte more than allowed tells a secret that is too long from one that just fits; the
        // buffer never grows, so that no copy is left behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(SECRET_BYTES_MAX + 2));
        let limit = SECRET_BYTES_MAX as u64 + 1;
        from.take(limit).read_to_end(&mut bytes).map_err(|error| Failure::failed(name, &error))?;
        if bytes.len() > SECRET_BYTES_MAX {
            return Err(Failure::usage(format!("{name} is longer than 1 MiB")));
        }
        let text = std::str::from_utf8(&bytes);
        let text = text.map_err(|_| Failure::usage(format!("{name} is not UTF-8")))?;
        // Windows adds it to text files.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let text = text.strip_suffix('\n').unwrap_or(text);
        let text = text.strip_suffix('\r').unwrap_or(text);
        Self::filled(Zeroizing::new(text.to_owned()), name)
    }

    fn filled(text: Zeroizing<String>, name: &str) -> Result<Self, Failure> {
        match text.is_empty() {
            true => Err(Failure::usage(format!("{name} is empty"))),
            false => Ok(Self(text)),
        }
    }
}

impl Typed {
    /// The text, for messages to the same user.
    pub(crate) fn text(&self) -> &str {
        &self.0
    }
}

impl From<String> for Typed {
    /// A value that is not secret, but is sent together with secrets.
    fn from(text: String) -> Self {
        Self(Zeroizing::new(text))
    }
}

impl Serialize for Typed {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.0)
    }
}

impl fmt::Debug for Typed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Typed(…)")
    }
}

/// Whether input and output are a terminal, so that the user can be asked.
pub(crate) fn can_ask() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Asks for a value that is not secret, with echo.
pub(crate) fn ask(label: &str) -> Result<String, Failure> {
    match super::text(label)? {
        text if text.is_empty() => Err(Failure::usage(format!("{label} is empty"))),
        text => Ok(text),
    }
}

/// Like `ask`, with a default for an empty line.
pub(crate) fn ask_or(label: &str, default: &str) -> Result<String, Failure> {
    match super::text(&format!("{label} [{default}]"))? {
        text if text.is_empty() => Ok(default.to_owned()),
        text => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<String, Failure> {
        Typed::read(bytes, "input").map(|typed| typed.0.to_string())
    }

    #[test]
    fn an_empty_non_utf8_or_too_long_secret_is_refused() {
        for bad in [b"".as_slice(), b"\n", b"\r\n", b"\xff\xfe"] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
        assert!(read(&vec![b'x'; SECRET_BYTES_MAX + 1]).is_err());
        assert!(read(&vec![b'x'; SECRET_BYTES_MAX]).is_ok());
    }

    #[test]
    fn a_byte_order_mark_and_one_line_end_are_taken_off_and_nothing_else() {
        let table = [
            ("s", "s"),
            ("s\n", "s"),
            ("s\r\n", "s"),
            ("s\n\n", "s\n"),
            (" s ", " s "),
            ("\u{feff}s\r\n", "s"),
            ("\u{feff}\u{feff}s\u{feff}", "\u{feff}s\u{feff}"),
        ];
        for (given, kept) in table {
            assert_eq!(read(given.as_bytes()).unwrap(), kept, "{given:?}");
        }
    }

    #[test]
    fn debug_shows_no_typed_secret() {
        assert_eq!(format!("{:?}", Typed::from("canary".to_owned())), "Typed(…)");
    }
}

//! Encryption of a backup in the age format (https://age-encryption.org/v1): for recipients, or with a passphrase.

use std::fmt;
use std::io::{self, Read, Write};
use std::str::FromStr;

use age::secrecy::SecretString;
use age::stream::{StreamReader, StreamWriter};
use age::{DecryptError, Decryptor, Encryptor, scrypt, x25519};
use keyward_base::secret::Secret;

use super::error::{BackupError, IdentityError, RecipientError};

/// scrypt's cost for passphrases, as a power of two: 128 MiB of memory, which OWASP's password storage cheat sheet
/// recommends. Fixed, because a cost that is measured would depend on the machine.
const SCRYPT_LOG_N: u8 = 17;

/// The highest cost that is accepted of a file: 1 GiB of memory.
const SCRYPT_LOG_N_MAX: u8 = 20;

/// Who can open a backup: an age recipient, `age1…`.
#[derive(Clone)]
pub struct Recipient {
    key: x25519::Recipient,
    text: String,
}

/// Opens backups that are encrypted for its recipient: `AGE-SECRET-KEY-1…`.
pub struct AgeIdentity(x25519::Identity);

/// How a backup is encrypted.
#[derive(Debug)]
pub enum Encryption {
    /// For each of these; there is at least one.
    Recipients(Vec<Recipient>),
    Passphrase(Secret),
}

/// What opens a backup.
#[derive(Debug)]
pub enum BackupKey {
    /// One of these.
    Identities(Vec<AgeIdentity>),
    Passphrase(Secret),
}

impl FromStr for Recipient {
    type Err = RecipientError;

    fn from_str(text: &str) -> Result<Self, RecipientError> {
        if text.starts_with("AGE-SECRET-KEY-") {
            return Err(RecipientError::Identity);
        }
        let key = text.parse().map_err(|_| match text.starts_with("ssh-") {
            true => RecipientError::Ssh,
            false => RecipientError::Malformed,
        })?;
        Ok(Self { key, text: text.to_owned() })
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl PartialEq for Recipient {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Recipient {}

impl fmt::Debug for AgeIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity(…)")
    }
}

impl AgeIdentity {
    /// A new one, for a backup that this process alone opens.
    pub fn generate() -> Self {
        Self(x25519::Identity::generate())
    }

    /// The recipient whose backups it opens.
    pub fn recipient(&self) -> Recipient {
        let key = self.0.to_public();
        let text = key.to_string();
        Recipient { key, text }
    }

    /// The identities of a file as `age-keygen` writes it: one in each line that is not empty or a comment.
    ///
    /// # Errors
    /// When a line is something else, or there is none.
    pub fn all_of(file: &Secret) -> Result<Vec<Self>, IdentityError> {
        let text = file.expose_text().ok_or(IdentityError::Line(1))?;
        let mut found = Vec::new();
        for (index, line) in text.lines().map(str::trim).enumerate() {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            found.push(Self(line.parse().map_err(|_| IdentityError::Line(index + 1))?));
        }
        match found.is_empty() {
            true => Err(IdentityError::None),
            false => Ok(found),
        }
    }
}

impl Encryption {
    /// Returns a writer that encrypts to `out`. The caller must call its `finish` at the end.
    pub(super) fn wrap<W: Write>(&self, out: W) -> io::Result<StreamWriter<W>> {
        let by_passphrase;
        let recipients: Vec<&dyn age::Recipient> = match self {
            Self::Recipients(recipients) => recipients.iter().map(|it| &it.key as _).collect(),
            Self::Passphrase(text) => {
                let mut recipient = scrypt::Recipient::new(secret_string(text));
                recipient.set_work_factor(SCRYPT_LOG_N);
                by_passphrase = recipient;
                vec![&by_passphrase]
            }
        };
        let encryptor = Encryptor::with_recipients(recipients.into_iter());
        encryptor.map_err(io::Error::other)?.wrap_output(out)
    }
}

impl BackupKey {
    /// Decrypts `file`. Each chunk is authenticated before the reader returns it.
    pub(super) fn unwrap<R: Read>(&self, file: R) -> Result<StreamReader<R>, BackupError> {
        let decryptor = Decryptor::new(file).map_err(BackupError::of_head)?;
        match (self, decryptor.is_scrypt()) {
            (Self::Passphrase(_), false) => return Err(BackupError::NeedsIdentity),
            (Self::Identities(_), true) => return Err(BackupError::NeedsPassphrase),
            _ => {}
        }
        let by_passphrase;
        let identities: Vec<&dyn age::Identity> = match self {
            Self::Identities(identities) => identities.iter().map(|it| &it.0 as _).collect(),
            Self::Passphrase(text) => {
                let mut identity = scrypt::Identity::new(secret_string(text));
                identity.set_max_work_factor(SCRYPT_LOG_N_MAX);
                by_passphrase = identity;
                vec![&by_passphrase]
            }
        };
        decryptor.decrypt(identities.into_iter()).map_err(|error| match (self, error) {
            (_, DecryptError::Io(error)) => BackupError::of_read(error),
            (
                Self::Passphrase(_),
                DecryptError::DecryptionFailed | DecryptError::NoMatchingKeys,
            ) => BackupError::WrongPassphrase,
            (_, DecryptError::DecryptionFailed | DecryptError::NoMatchingKeys) => {
                BackupError::WrongIdentity
            }
            (_, DecryptError::ExcessiveWork { .. }) => BackupError::TooCostly,
            _ => BackupError::Damaged,
        })
    }
}

/// Whether a passphrase opens the file, by the beginning of it; otherwise an identity does.
///
/// # Errors
/// When it is not an age file, or cannot be read.
pub(super) fn is_by_passphrase<R: Read>(file: R) -> Result<bool, BackupError> {
    Decryptor::new(file).map(|it| it.is_scrypt()).map_err(BackupError::of_head)
}

/// The crate wipes it when dropped.
fn secret_string(text: &Secret) -> SecretString {
    SecretString::from(String::from_utf8_lossy(text.expose()).into_owned())
}

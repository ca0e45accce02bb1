//! Why there is no CA, or no leaf. All of it is for the operator; agents see `internal`.

use std::io;
use std::path::PathBuf;

use jiff::Timestamp;
use rustls_pki_types::pem;

use crate::net::tls::TlsError;

impl CaError {
    /// What to do about it, where the message does not say so itself.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NotOurs { .. } => Some(
                "put a new certificate and its key in the place of both files, then `keyward reload`",
            ),
            Self::NoRoom => Some(
                "replace it at once with --no-overlap, and let clients trust the new one: its \
                 successors will overlap",
            ),
            Self::Overlapping { .. } => {
                Some("wait for its end, or end it: --no-overlap makes a CA that nobody trusts yet")
            }
            Self::Changed => Some("`keyward reload` takes them up"),
            _ => None,
        }
    }
}

/// Why there is no CA, or no leaf.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// A file cannot be read.
    #[error(
        "cannot read {path}: check that it exists and that this user may",
        path = path.display()
    )]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// A file or directory cannot be written.
    #[error(
        "cannot write {path}: check the directory's owner and free space",
        path = path.display()
    )]
    Write {
        /// The file or directory.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// One of the two files is missing. A new CA would lock out everyone who trusts the old one.
    #[error(
        "{present} is there but {missing} is not: restore it from a backup, or remove both \
         to have a new CA made",
        present = present.display(), missing = missing.display()
    )]
    Incomplete {
        /// The file that exists.
        present: PathBuf,
        /// The file that does not.
        missing: PathBuf,
    },
    /// Others may read the key.
    #[error(
        "{path} is open to others (mode {mode:04o}): run `chmod 600 {path}`, and make a new \
         CA if they could have read it",
        path = path.display()
    )]
    LooseKey {
        /// The key file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Not PEM, or no certificate in it.
    #[error(
        "{path} is not a PEM certificate: give the CA's certificate as PEM",
        path = path.display()
    )]
    NotACertificate {
        /// The certificate file.
        path: PathBuf,
        /// What is wrong with its PEM, where that is the trouble.
        #[source]
        source: Option<pem::Error>,
    },
    /// Not PEM, encrypted, or of a kind that cannot sign.
    #[error(
        "{path} is not an unencrypted PEM private key (ECDSA, RSA or Ed25519)",
        path = path.display()
    )]
    NotAKey {
        /// The key file.
        path: PathBuf,
    },
    /// The key belongs to another certificate.
    #[error(
        "{key} is not the key of {cert}: give the pair that was made together",
        key = key.display(), cert = cert.display()
    )]
    KeyMismatch {
        /// The certificate file.
        cert: PathBuf,
        /// The key file.
        key: PathBuf,
    },
    /// The certificate may not sign others.
    #[error(
        "{path} is not a CA certificate ({lacks}): give one that may sign certificates",
        path = path.display()
    )]
    NotACa {
        /// The certificate file.
        path: PathBuf,
        /// What it lacks.
        lacks: &'static str,
    },
    /// Leaves could not name the CA byte for byte, so no client would find the way from one to it.
    #[error(
        "the subject of {path} cannot be repeated as an issuer: use a CA with one value per \
         attribute",
        path = path.display()
    )]
    Subject {
        /// The certificate file.
        path: PathBuf,
    },
    /// Replacing it would leave the old key where the link leads.
    #[error("{path} is a symbolic link: put the file itself there", path = path.display())]
    Link {
        /// The file.
        path: PathBuf,
    },
    /// Somebody else's CA, which only they can replace.
    #[error("the CA in {path} was not made by keyward, so keyward makes no successor", path = path.display())]
    NotOurs {
        /// The certificate file.
        path: PathBuf,
    },
    /// It was made before successors were thought of.
    #[error("this CA may sign leaves only (path length 0), so it cannot vouch for a successor")]
    NoRoom,
    /// The last rotation is not over: clients would have to follow two steps at once.
    #[error(
        "the last rotation is under way: clients that trust the CA before are served until {until:.0}"
    )]
    Overlapping {
        /// Its end.
        until: Timestamp,
    },
    /// The files are not what is in use.
    #[error("the CA's files were changed since they were read")]
    Changed,
    /// The CA's time is over.
    #[error(
        "the CA certificate has expired: remove its two files to have a new one made, and \
         let clients trust that"
    )]
    Expired,
    /// The CA's time has not begun.
    #[error("the CA certificate is not valid yet: check this machine's clock")]
    NotYetValid,
    /// Making a key or signing failed.
    #[error("cannot make or sign a certificate")]
    Sign(#[from] rcgen::Error),
    /// The operating system gives no randomness.
    #[error("the operating system gives no random bytes")]
    Random(#[from] getrandom::Error),
    /// The TLS library refuses what was made.
    #[error("the TLS library refuses the certificate or its key")]
    Tls(#[from] rustls::Error),
    /// There is nothing to bundle the CA with.
    #[error("cannot read the platform's root certificates")]
    Roots(#[source] TlsError),
}

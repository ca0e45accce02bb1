//! [`CaError`]: why the CA or a leaf is not available. The operator sees these errors; agents see `internal`.

use std::io;
use std::path::PathBuf;

use jiff::Timestamp;
use rustls_pki_types::pem;

use keyward_net::tls::TlsError;

impl CaError {
    /// The remedy, if the message does not contain it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NotOurs { .. } => Some(
                "put a new certificate and its key in the place of both files, then `keyward reload`",
            ),
            Self::NoRoom => Some(
                "replace it at once with --no-overlap, and let clients trust the new one: its \
                 successors will overlap",
            ),
            Self::Overlapping { .. } => Some(
                "wait for its end, or end it: --no-overlap creates a CA that no client trusts yet",
            ),
            Self::Changed => Some("`keyward reload` loads them"),
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
        path: PathBuf,
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
        #[source]
        source: io::Error,
    },
    /// One of the two files is missing. Making a new CA would lock out clients that trust the old one.
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
    /// Other users may read the key.
    #[error(
        "{path} is open to others (mode {mode:04o}): run `chmod 600 {path}`, and make a new \
         CA if they could have read it",
        path = path.display()
    )]
    LooseKey {
        path: PathBuf,
        /// The permission bits of the file.
        mode: u32,
    },
    /// Not PEM, or no certificate in it.
    #[error(
        "{path} is not a PEM certificate: give the CA's certificate as PEM",
        path = path.display()
    )]
    NotACertificate {
        path: PathBuf,
        /// The PEM error, if there is one.
        #[source]
        source: Option<pem::Error>,
    },
    /// Not PEM, encrypted, or of a kind that cannot sign.
    #[error(
        "{path} is not an unencrypted PEM private key (ECDSA, RSA or Ed25519)",
        path = path.display()
    )]
    NotAKey { path: PathBuf },
    /// The key belongs to another certificate.
    #[error(
        "{key} is not the key of {cert}: give the pair that was made together",
        key = key.display(), cert = cert.display()
    )]
    KeyMismatch { cert: PathBuf, key: PathBuf },
    /// The certificate may not sign other certificates.
    #[error(
        "{path} is not a CA certificate ({lacks}): give one that may sign certificates",
        path = path.display()
    )]
    NotACa {
        path: PathBuf,
        /// The missing property.
        lacks: &'static str,
    },
    /// Leaves could not repeat the CA's name byte for byte, so clients could not build the chain.
    #[error(
        "the subject of {path} cannot be repeated as an issuer: use a CA with one value per \
         attribute",
        path = path.display()
    )]
    Subject { path: PathBuf },
    /// The file is a symbolic link: replacing the link would keep the old key at its target.
    #[error("{path} is a symbolic link: put the file itself there", path = path.display())]
    Link { path: PathBuf },
    /// The CA was not made by Keyward, so only its owner can replace it.
    #[error("the CA in {path} was not made by keyward, so keyward makes no successor", path = path.display())]
    NotOurs { path: PathBuf },
    /// The CA was made by a version without rotation.
    #[error("this CA may sign leaves only (path length 0), so it cannot sign a successor")]
    NoRoom,
    /// The last rotation is still in its overlap; clients would have to follow two rotations at once.
    #[error(
        "the last rotation is in progress: clients that trust the previous CA are served until \
         {until:.0}"
    )]
    Overlapping {
        /// The end of the overlap.
        until: Timestamp,
    },
    /// The files differ from the CA in use.
    #[error("the CA's files were changed since they were read")]
    Changed,
    #[error(
        "the CA certificate has expired: remove its two files to have a new one made, and \
         let clients trust that"
    )]
    Expired,
    #[error("the CA certificate is not valid yet: check this machine's clock")]
    NotYetValid,
    /// Making a key or signing failed.
    #[error("cannot make or sign a certificate")]
    Sign(#[from] rcgen::Error),
    /// The operating system gives no randomness.
    #[error("the operating system gives no random bytes")]
    Random(#[from] getrandom::Error),
    /// The TLS library rejects the certificate or the key.
    #[error("the TLS library refuses the certificate or its key")]
    Tls(#[from] rustls::Error),
    /// The platform has no root certificates to bundle with the CA.
    #[error("cannot read the platform's root certificates")]
    Roots(#[source] TlsError),
}

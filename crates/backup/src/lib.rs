//! Backups: one file with all rows of a store and the CA, encrypted in the age format. The master key is not in it: a
//! backup is opened with its passphrase or identity alone, and restored under any master key.
//!
//! `encryption.rs` is the only user of the `age` crate. Inside it is a stream of frames (`frame.rs`): a header, the CA,
//! rows, and a trailer with counts and a hash. `read.rs` writes and reads, and holds one frame in memory at a time.
//! What becomes of the rows, and of directories, is decided by the program.

mod backups;
mod encryption;
mod error;
mod frame;
mod read;
mod staged_file;
#[cfg(test)]
mod tests;

pub use backups::{
    BackupSettings, Backups, BegunBackup, Schedule, ScheduledBackups, WrittenBackup, file_name,
    time_of,
};
pub use encryption::{AgeIdentity, BackupKey, Encryption, Recipient};
pub use error::{BackupError, IdentityError, RecipientError, WriteError};
pub use frame::{BackupHeader, BackupPart, FORMAT};
pub use read::{BackupContent, BackupEntry, BackupReader, verify, write};
pub use staged_file::StagedFile;

//! Random numbers, which distinguish replicas and the holders of leases.

use std::io;

use crate::store::StoreError;

pub(super) fn random_number() -> Result<i64, StoreError> {
    let mut bytes = [0; 8];
    match getrandom::fill(&mut bytes) {
        Ok(()) => Ok(i64::from_be_bytes(bytes)),
        Err(error) => {
            let source = io::Error::other(error.to_string());
            Err(StoreError::Io { action: "take a lease", source })
        }
    }
}

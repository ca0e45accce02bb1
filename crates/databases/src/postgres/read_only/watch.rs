//! [`ModeWatch`] reads the server's messages and ends a session whose mode was changed: servers since version 14 report
//! `default_transaction_read_only` to the client, whatever changed it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use bytes::{Buf, BytesMut};

use super::is_safe_encoding;
use crate::stream::Watch;

/// The longest report that is read. Longer ones are about other settings.
const REPORT_BYTES_MAX: usize = 1024;

/// Reads the reports of settings of a server.
#[derive(Debug)]
pub struct ModeWatch {
    /// Type and length of the next message, or a report, as far as they have come.
    begun: BytesMut,
    /// The rest of a message that is not read.
    passing: usize,
    changed: Arc<AtomicBool>,
}

impl Watch for ModeWatch {
    fn came(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.report_change(bytes) {
            self.changed.store(true, Relaxed);
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        Ok(())
    }
}

impl ModeWatch {
    /// Sets `changed` when the session is no longer what it was.
    pub fn new(changed: Arc<AtomicBool>) -> Self {
        Self { begun: BytesMut::new(), passing: 0, changed }
    }

    /// Whether what came reports a change of the session's mode.
    fn report_change(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            let take = self.passing.min(bytes.len());
            bytes.advance(take);
            self.passing -= take;
            let Some(byte) = bytes.first() else { break };
            self.begun.extend_from_slice(&[*byte]);
            bytes.advance(1);
            let [tag, a, b, c, d, body @ ..] = &self.begun[..] else { continue };
            let length = (u32::from_be_bytes([*a, *b, *c, *d]) as usize).saturating_sub(4);
            let is_report = *tag == b'S' && length <= REPORT_BYTES_MAX;
            if is_report && body.len() < length {
                continue;
            }
            if is_report && is_change(body) {
                return true;
            }
            self.passing = length - body.len();
            self.begun.clear();
        }
        false
    }
}

/// Whether a `ParameterStatus` reports what a read-only session never has.
fn is_change(body: &[u8]) -> bool {
    let mut parts = body.split(|byte| *byte == 0);
    let (Some(name), Some(value)) = (parts.next(), parts.next()) else { return false };
    match name {
        b"default_transaction_read_only" | b"standard_conforming_strings" => value != b"on",
        b"client_encoding" => !std::str::from_utf8(value).is_ok_and(is_safe_encoding),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(tag: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap();
        [&[tag][..], &length.to_be_bytes(), body].concat()
    }

    #[test]
    fn a_report_of_a_changed_mode_is_found_in_pieces_of_any_size() {
        let row = message(b'D', &[b'S'; 3000]);
        for (report, is_found) in [
            (&b"default_transaction_read_only\0off\0"[..], true),
            (b"default_transaction_read_only\0on\0", false),
            (b"standard_conforming_strings\0off\0", true),
            (b"client_encoding\0SJIS\0", true),
            (b"client_encoding\0UTF8\0", false),
            (b"TimeZone\0UTC\0", false),
        ] {
            let all = [&row[..], &message(b'S', report), &row, &message(b'Z', b"I")].concat();
            for piece in [1, 3, 5, 1000, 100_000] {
                let mut messages = ModeWatch::new(Arc::default());
                let found = all.chunks(piece).any(|bytes| messages.report_change(bytes));
                assert_eq!(found, is_found, "{report:?} in {piece}");
            }
        }
    }
}

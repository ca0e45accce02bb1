//! The file format of a row: `frame version (1) ‖ row version (8) ‖ CRC-32 (4) ‖ value`. The checksum detects
//! accidental damage without a key; the envelope inside the value detects tampering.

use super::error::StoreError;
use super::table::{Table, Version};

/// The only frame version.
const FRAME: u8 = 1;
const VERSION_AT: usize = 1;
const CHECKSUM_AT: usize = VERSION_AT + 8;
const VALUE_AT: usize = CHECKSUM_AT + 4;

/// Encodes a row.
pub(super) fn encode(table: Table, key: &[u8], version: Version, value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(VALUE_AT + value.len());
    bytes.push(FRAME);
    bytes.extend(version.0.to_be_bytes());
    bytes.extend(checksum(table, key, version, value).to_be_bytes());
    bytes.extend(value);
    bytes
}

/// Decodes version and value.
pub(super) fn decode<'a>(
    table: Table,
    key: &[u8],
    bytes: &'a [u8],
) -> Result<(Version, &'a [u8]), StoreError> {
    split(bytes)
        .filter(|(version, sum, value)| *sum == checksum(table, key, *version, value))
        .map(|(version, _, value)| (version, value))
        .ok_or_else(|| corrupt(table, key))
}

/// An error that names the row, even if its key is not valid text.
pub(super) fn corrupt(table: Table, key: &[u8]) -> StoreError {
    StoreError::Corrupt { table: table.name(), key: key.escape_ascii().to_string() }
}

fn split(bytes: &[u8]) -> Option<(Version, u32, &[u8])> {
    let (head, value) = bytes.split_at_checked(VALUE_AT)?;
    let version = u64::from_be_bytes(head[VERSION_AT..CHECKSUM_AT].try_into().ok()?);
    let sum = u32::from_be_bytes(head[CHECKSUM_AT..].try_into().ok()?);
    (head[0] == FRAME).then_some((Version(version), sum, value))
}

/// The checksum covers table and key as well, so that a row moved by a damaged index is detected.
fn checksum(table: Table, key: &[u8], version: Version, value: &[u8]) -> u32 {
    let mut sum = crc32fast::Hasher::new();
    for part in [table.name().as_bytes(), b"\0", key, b"\0", &version.0.to_be_bytes(), value] {
        sum.update(part);
    }
    sum.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flipped_cut_and_moved_rows_are_corrupt_and_named() {
        let bytes = encode(Table::Agents, b"o/a", Version(7), b"sealed");
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut changed = bytes.clone();
                changed[at] ^= 1 << bit;
                assert!(decode(Table::Agents, b"o/a", &changed).is_err(), "byte {at} bit {bit}");
            }
            assert!(decode(Table::Agents, b"o/a", &bytes[..at]).is_err(), "cut at {at}");
        }
        assert!(decode(Table::Grants, b"o/a", &bytes).is_err());
        let moved = decode(Table::Agents, b"o/\xff", &bytes).unwrap_err();
        assert_eq!(
            moved.to_string(),
            r"agents row o/\xff is damaged: restore the store from a backup"
        );
    }

    #[test]
    fn a_row_comes_back_as_it_was_written() {
        let bytes = encode(Table::Meta, b"k", Version(u64::MAX), b"");
        assert_eq!(decode(Table::Meta, b"k", &bytes).unwrap(), (Version(u64::MAX), &b""[..]));
    }
}

//! The plaintext of a stored grant: a format byte, a kind byte, a count, then name and value of each field, each
//! with its length. Decoding is exact; trailing bytes are an error.
//!
//! `1 ‖ kind ‖ count:u16 ‖ (name_len:u16 ‖ name ‖ value_len:u32 ‖ value)*`, integers big-endian.

use std::collections::BTreeMap;

use zeroize::Zeroizing;

use super::MintError;
use keyward_base::secret::Secret;

/// The current format.
const FORMAT: u8 = 1;

/// Kinds as stored; numbers are never reused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum StoredKind {
    ApiKey = 1,
    Bearer = 2,
    Basic = 3,
    Custom = 4,
    OAuth = 5,
    App = 6,
    SshKey = 7,
    AwsKey = 8,
    SigningKey = 9,
    Referred = 10,
    Digest = 11,
}

/// Encodes a grant. The buffer is allocated once, so that no unwiped copy is left.
pub(super) fn encode(kind: StoredKind, fields: &BTreeMap<String, Secret>) -> Zeroizing<Vec<u8>> {
    let length: usize = fields.iter().map(|(name, value)| 6 + name.len() + value.len()).sum();
    let mut out = Zeroizing::new(Vec::with_capacity(4 + length));
    out.extend_from_slice(&[FORMAT, kind as u8]);
    out.extend_from_slice(&count(fields.len()).to_be_bytes());
    for (name, value) in fields {
        out.extend_from_slice(&count(name.len()).to_be_bytes());
        out.extend_from_slice(name.as_bytes());
        let length = u32::try_from(value.len()).expect("a field holds at most 16 KiB");
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(value.expose());
    }
    out
}

fn count(number: usize) -> u16 {
    u16::try_from(number).expect("names and counts come from a provider file, where both are small")
}

/// Decodes a grant.
pub(super) fn decode(bytes: &[u8]) -> Result<(StoredKind, BTreeMap<String, Secret>), MintError> {
    let mut reader = GrantReader { rest: bytes };
    match reader.byte()? {
        FORMAT => {}
        other => return Err(malformed(format!("format {other} is newer than this program"))),
    }
    let kind = match reader.byte()? {
        1 => StoredKind::ApiKey,
        2 => StoredKind::Bearer,
        3 => StoredKind::Basic,
        4 => StoredKind::Custom,
        5 => StoredKind::OAuth,
        6 => StoredKind::App,
        7 => StoredKind::SshKey,
        8 => StoredKind::AwsKey,
        9 => StoredKind::SigningKey,
        10 => StoredKind::Referred,
        11 => StoredKind::Digest,
        other => return Err(malformed(format!("kind {other} is newer than this program"))),
    };
    let fields = reader.short()?;
    let mut values = BTreeMap::new();
    for _ in 0..fields {
        let name_bytes = usize::from(reader.short()?);
        let name = std::str::from_utf8(reader.take(name_bytes)?);
        let name = name.map_err(|_| malformed("a field's name is not text"))?.to_owned();
        let value_bytes = reader.long()?;
        let value = Secret::new(reader.take(value_bytes)?);
        if values.insert(name, value).is_some() {
            return Err(malformed("a field is repeated"));
        }
    }
    match reader.rest.is_empty() {
        true => Ok((kind, values)),
        false => Err(malformed("bytes are left over")),
    }
}

fn malformed(what: impl Into<String>) -> MintError {
    MintError::Malformed { what: what.into() }
}

struct GrantReader<'a> {
    rest: &'a [u8],
}

impl<'a> GrantReader<'a> {
    fn take(&mut self, bytes: usize) -> Result<&'a [u8], MintError> {
        let (taken, rest) =
            self.rest.split_at_checked(bytes).ok_or_else(|| malformed("it is cut short"))?;
        self.rest = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, MintError> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn short(&mut self) -> Result<u16, MintError> {
        self.take(2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn long(&mut self) -> Result<usize, MintError> {
        let bytes = self.take(4)?;
        let number = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        usize::try_from(number).map_err(|_| malformed("a field is too long"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Zeroizing<Vec<u8>> {
        let fields = [("password", "p:w"), ("username", "ünï")];
        let fields = fields.map(|(name, value)| (name.to_owned(), Secret::from(value.to_owned())));
        encode(StoredKind::Basic, &fields.into())
    }

    #[test]
    fn every_truncation_and_every_extension_is_refused() {
        let whole = sample();
        for end in 0..whole.len() {
            assert!(decode(&whole[..end]).is_err(), "{end}");
        }
        let mut longer = whole.to_vec();
        longer.push(0);
        assert!(decode(&longer).is_err());
    }

    #[test]
    fn an_unknown_format_or_kind_is_refused() {
        for (at, value) in [(0, 0), (0, 2), (1, 0), (1, 12), (1, 255)] {
            let mut bytes = sample().to_vec();
            bytes[at] = value;
            assert!(decode(&bytes).is_err(), "byte {at} = {value}");
        }
    }

    #[test]
    fn a_grant_reads_back_as_it_was() {
        let (kind, fields) = decode(&sample()).unwrap();
        assert_eq!(kind, StoredKind::Basic);
        let pairs: Vec<_> =
            fields.iter().map(|(name, value)| (name.as_str(), value.expose_text())).collect();
        assert_eq!(pairs, [("password", Some("p:w")), ("username", Some("ünï"))]);
        assert_eq!(encode(kind, &fields), sample());
    }

    #[test]
    fn an_encoded_grant_fills_its_buffer_exactly() {
        let field = |n: usize| (format!("field-{n}"), Secret::from("x".repeat(n * n)));
        for count in 0..20 {
            let bytes = encode(StoredKind::Custom, &(0..count).map(field).collect());
            assert_eq!(bytes.capacity(), bytes.len(), "{count} fields");
        }
    }
}

//! PackStream, as far as the heads of messages need it: finds the end of a value without decoding it, reads texts and
//! maps, and writes them. <https://neo4j.com/docs/bolt/current/packstream/>

use super::format::BoltFormatError;

/// How deep values may be nested. Drivers nest what programs nest.
const LEVELS_MAX: usize = 64;

/// The beginning of a value: its kind, and the number of bytes or values that follow.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum ValueHead {
    Scalar(usize),
    Text(usize),
    List(u64),
    Map(u64),
    Structure(u64),
}

/// Finds the end of one value, which comes in pieces of any size. Nothing is kept of it.
#[derive(Clone, Debug)]
pub struct ValueScan {
    /// How many values are missing at each level; empty at the end.
    missing: Vec<u64>,
    /// The head of the next value, as far as it has come.
    head: Vec<u8>,
    /// Bytes of the value that are missing.
    bytes: usize,
}

/// Reads the values of a message that has come as a whole.
#[derive(Clone, Copy, Debug)]
pub struct ValueReader<'a>(pub &'a [u8]);

/// The entries of a map: each key, and the bytes of its value.
#[derive(Clone, Debug, Default)]
pub struct BoltMap<'a>(pub Vec<(&'a str, &'a [u8])>);

impl ValueHead {
    /// The head at the beginning of these bytes, and its length; `None`: more of it is needed.
    fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, BoltFormatError> {
        let Some((marker, rest)) = bytes.split_first() else { return Ok(None) };
        let marker = *marker;
        let size_bytes = match marker {
            // The tag of a structure is one of its bytes.
            0xcc | 0xd0 | 0xd4 | 0xd8 | 0xb0..=0xbf => 1,
            0xcd | 0xd1 | 0xd5 | 0xd9 => 2,
            0xce | 0xd2 | 0xd6 | 0xda => 4,
            _ => 0,
        };
        let Some(size) = rest.get(..size_bytes) else { return Ok(None) };
        let size = size.iter().fold(0_u32, |size, byte| (size << 8) | u32::from(*byte));
        let tiny = marker & 0x0f;
        let head = match marker {
            0x00..=0x7f | 0xf0..=0xff | 0xc0 | 0xc2 | 0xc3 => Self::Scalar(0),
            0xc8 => Self::Scalar(1),
            0xc9 => Self::Scalar(2),
            0xca => Self::Scalar(4),
            0xc1 | 0xcb => Self::Scalar(8),
            0xcc..=0xce => Self::Scalar(size as usize),
            0x80..=0x8f => Self::Text(tiny.into()),
            0xd0..=0xd2 => Self::Text(size as usize),
            0x90..=0x9f => Self::List(tiny.into()),
            0xd4..=0xd6 => Self::List(size.into()),
            0xa0..=0xaf => Self::Map(tiny.into()),
            0xd8..=0xda => Self::Map(size.into()),
            0xb0..=0xbf => Self::Structure(tiny.into()),
            _ => return Err(BoltFormatError::Value),
        };
        Ok(Some((head, 1 + size_bytes)))
    }
}

impl Default for ValueScan {
    fn default() -> Self {
        Self { missing: vec![1], head: Vec::new(), bytes: 0 }
    }
}

impl ValueScan {
    /// Whether the value has come as a whole.
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty()
    }

    /// Takes bytes up to the end of the value. Returns how many.
    ///
    /// # Errors
    /// When they are no value, or one that is nested too deep.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<usize, BoltFormatError> {
        let mut at = 0;
        while at < bytes.len() && !self.is_complete() {
            if self.bytes > 0 {
                let take = self.bytes.min(bytes.len() - at);
                at += take;
                self.bytes -= take;
                if self.bytes == 0 {
                    self.end_value();
                }
                continue;
            }
            self.head.push(bytes[at]);
            at += 1;
            if let Some((head, _)) = ValueHead::parse(&self.head)? {
                self.head.clear();
                self.begin(head)?;
            }
        }
        Ok(at)
    }

    fn begin(&mut self, head: ValueHead) -> Result<(), BoltFormatError> {
        let values = match head {
            ValueHead::Scalar(bytes) | ValueHead::Text(bytes) => {
                self.bytes = bytes;
                0
            }
            ValueHead::List(values) | ValueHead::Structure(values) => values,
            ValueHead::Map(entries) => 2 * entries,
        };
        if values > 0 {
            if self.missing.len() == LEVELS_MAX {
                return Err(BoltFormatError::Depth);
            }
            self.missing.push(values);
        } else if self.bytes == 0 {
            self.end_value();
        }
        Ok(())
    }

    /// A value has ended, and with it all those whose last one it is.
    fn end_value(&mut self) {
        while let Some(missing) = self.missing.last_mut() {
            *missing -= 1;
            if *missing > 0 {
                return;
            }
            self.missing.pop();
        }
    }
}

impl<'a> ValueReader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], BoltFormatError> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(BoltFormatError::Cut)?;
        self.0 = rest;
        Ok(taken)
    }

    fn head(&mut self) -> Result<ValueHead, BoltFormatError> {
        let (head, length) = ValueHead::parse(self.0)?.ok_or(BoltFormatError::Cut)?;
        self.take(length)?;
        Ok(head)
    }

    /// The bytes of the next value, whatever it is.
    pub fn value(&mut self) -> Result<&'a [u8], BoltFormatError> {
        let mut scan = ValueScan::default();
        let length = scan.feed(self.0)?;
        if !scan.is_complete() {
            return Err(BoltFormatError::Cut);
        }
        self.take(length)
    }

    /// The next value, which is a text.
    pub fn text(&mut self) -> Result<&'a str, BoltFormatError> {
        let ValueHead::Text(length) = self.head()? else { return Err(BoltFormatError::Value) };
        std::str::from_utf8(self.take(length)?).map_err(|_| BoltFormatError::Value)
    }

    /// The next value, which is a map.
    pub fn map(&mut self) -> Result<BoltMap<'a>, BoltFormatError> {
        let ValueHead::Map(entries) = self.head()? else { return Err(BoltFormatError::Value) };
        // Each entry takes bytes, so that a wrong number ends at the end of the message.
        let mut map = BoltMap::default();
        for _ in 0..entries {
            map.0.push((self.text()?, self.value()?));
        }
        Ok(map)
    }

    /// The values of the next value, which is a list.
    pub fn list(&mut self) -> Result<Vec<&'a [u8]>, BoltFormatError> {
        let ValueHead::List(values) = self.head()? else { return Err(BoltFormatError::Value) };
        (0..values).map(|_| self.value()).collect()
    }

    /// Nothing may follow.
    pub fn end(self) -> Result<(), BoltFormatError> {
        match self.0 {
            [] => Ok(()),
            _ => Err(BoltFormatError::Trailing),
        }
    }
}

impl<'a> BoltMap<'a> {
    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&'a [u8]> {
        self.0.iter().find(|(own, _)| *own == key).map(|(_, value)| *value)
    }

    /// The text of a key, if it is one.
    pub fn text(&self, key: &str) -> Option<&'a str> {
        ValueReader(self.get(key)?).text().ok()
    }

    /// Removes these keys, also where one is written twice.
    pub fn remove(&mut self, keys: &[&str]) {
        self.0.retain(|(key, _)| !keys.contains(key));
    }

    /// Appends the map.
    pub fn write(&self, out: &mut Vec<u8>) {
        put_map(self.0.len(), out);
        for (key, value) in &self.0 {
            put_text(key, out);
            out.extend_from_slice(value);
        }
    }
}

/// `marker`: the one whose size has one byte; those of two and four bytes follow it.
fn put_size(tiny: u8, marker: u8, size: usize, out: &mut Vec<u8>) {
    let [a, b, c, d] = u32::try_from(size).unwrap_or(u32::MAX).to_be_bytes();
    match size {
        0..=0x0f => out.push(tiny | d),
        0x10..=0xff => out.extend([marker, d]),
        0x100..=0xffff => out.extend([marker + 1, c, d]),
        _ => out.extend([marker + 2, a, b, c, d]),
    }
}

pub fn put_text(text: &str, out: &mut Vec<u8>) {
    put_size(0x80, 0xd0, text.len(), out);
    out.extend_from_slice(text.as_bytes());
}

/// The head of a map with this number of entries.
pub fn put_map(entries: usize, out: &mut Vec<u8>) {
    put_size(0xa0, 0xd8, entries, out);
}

/// The head of a list.
pub fn put_list(values: usize, out: &mut Vec<u8>) {
    put_size(0x90, 0xd4, values, out);
}

/// A text as a value.
pub fn text(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + 5);
    put_text(text, &mut out);
    out
}

/// A map whose values are texts.
pub fn map_of_texts(entries: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    put_map(entries.len(), &mut out);
    put_entries(entries, &mut out);
    out
}

/// Entries of a map whose values are texts.
pub fn put_entries(entries: &[(&str, &str)], out: &mut Vec<u8>) {
    for (key, value) in entries {
        put_text(key, out);
        put_text(value, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends_at(bytes: &[u8], piece: usize) -> Result<Option<usize>, BoltFormatError> {
        let (mut scan, mut at) = (ValueScan::default(), 0);
        for piece in bytes.chunks(piece) {
            at += scan.feed(piece)?;
        }
        Ok(scan.is_complete().then_some(at))
    }

    #[test]
    fn the_end_of_a_value_is_found_in_pieces_of_any_size() {
        let long = [&[0xd1, 1, 0][..], &[b'x'; 256]].concat();
        for value in [
            &[0x2a][..],
            &[0xf0],
            &[0xc0],
            &[0xc1, 0, 0, 0, 0, 0, 0, 0, 0],
            &[0xc9, 1, 2],
            &[0xcc, 2, 1, 2],
            &[0x80],
            &[0x83, b'a', b'b', b'c'],
            &long,
            &[0x90],
            &[0x92, 0x91, 0x01, 0xa0],
            &[0xa1, 0x81, b'a', 0xb2, 0x4e, 0x01, 0x90],
            &[0xd4, 1, 0xd8, 0],
        ] {
            let more = [value, &[0x01, 0x02]].concat();
            for piece in [1, 2, 3, 1000] {
                assert_eq!(ends_at(&more, piece), Ok(Some(value.len())), "{value:?}");
                assert_eq!(ends_at(&value[..value.len() - 1], piece), Ok(None), "{value:?}");
            }
        }
    }

    #[test]
    fn deep_and_unknown_values_are_refused_and_a_declared_size_takes_no_memory() {
        assert_eq!(ends_at(&[0x91; 10_000], 7), Err(BoltFormatError::Depth));
        assert_eq!(ends_at(&[0xa1, 0x81, b'a'].repeat(10_000), 100), Err(BoltFormatError::Depth));
        for marker in [0xc4, 0xc7, 0xcf, 0xd3, 0xd7, 0xdb, 0xdc, 0xdd, 0xef] {
            assert_eq!(ends_at(&[marker, 0, 0], 1), Err(BoltFormatError::Value), "{marker}");
        }
        let mut scan = ValueScan::default();
        scan.feed(&[0xda, 0xff, 0xff, 0xff, 0xff, 0xd2, 0xff, 0xff, 0xff, 0xff]).unwrap();
        assert!(!scan.is_complete() && scan.missing.capacity() < 100);
    }

    #[test]
    fn a_map_is_read_and_written_unchanged_but_for_the_removed_keys() {
        let mut out = map_of_texts(&[("mode", "w"), ("db", "app"), ("mode", "w")]);
        let mut map = ValueReader(&out).map().unwrap();
        assert_eq!(map.text("db"), Some("app"));
        map.remove(&["mode"]);
        let mut written = Vec::new();
        map.write(&mut written);
        assert_eq!(written, map_of_texts(&[("db", "app")]));
        out.push(0);
        let mut reader = ValueReader(&out);
        reader.map().unwrap();
        assert_eq!(reader.end(), Err(BoltFormatError::Trailing));
        assert_eq!(ValueReader(&[0xd8, 200, 0x81]).map().unwrap_err(), BoltFormatError::Cut);
        assert_eq!(ValueReader(&[0xa1, 0x01, 0x01]).map().unwrap_err(), BoltFormatError::Value);
    }
}

//! Strings and numbers of the SSH protocol, RFC 4251 §5. Nothing is copied, and no length is trusted.

/// Bytes that are not what they should be.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the message is malformed")]
pub struct MalformedMessage;

/// Reads values one after the other.
#[derive(Clone, Copy, Debug)]
pub struct WireReader<'a>(&'a [u8]);

impl<'a> WireReader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// One byte.
    ///
    /// # Errors
    /// When there is none.
    pub fn byte(&mut self) -> Result<u8, MalformedMessage> {
        let (byte, rest) = self.0.split_first().ok_or(MalformedMessage)?;
        self.0 = rest;
        Ok(*byte)
    }

    /// A number.
    ///
    /// # Errors
    /// When fewer than four bytes are left.
    pub fn number(&mut self) -> Result<u32, MalformedMessage> {
        let (bytes, rest) = self.0.split_first_chunk::<4>().ok_or(MalformedMessage)?;
        self.0 = rest;
        Ok(u32::from_be_bytes(*bytes))
    }

    /// A string of bytes.
    ///
    /// # Errors
    /// When it is longer than what is left.
    pub fn string(&mut self) -> Result<&'a [u8], MalformedMessage> {
        let length = usize::try_from(self.number()?).map_err(|_| MalformedMessage)?;
        let (bytes, rest) = self.0.split_at_checked(length).ok_or(MalformedMessage)?;
        self.0 = rest;
        Ok(bytes)
    }

    /// A string that is text.
    ///
    /// # Errors
    /// As [`WireReader::string`]; also when it is not UTF-8.
    pub fn text(&mut self) -> Result<&'a str, MalformedMessage> {
        std::str::from_utf8(self.string()?).map_err(|_| MalformedMessage)
    }

    /// A positive number of any size, without leading zeros.
    ///
    /// # Errors
    /// When it is negative, zero or not in its shortest form.
    pub fn integer(&mut self) -> Result<&'a [u8], MalformedMessage> {
        match self.string()? {
            [0, rest @ ..] if rest.first().is_some_and(|first| *first >= 0x80) => Ok(rest),
            whole @ [first, ..] if (1..0x80).contains(first) => Ok(whole),
            _ => Err(MalformedMessage),
        }
    }

    /// Checks that nothing is left.
    ///
    /// # Errors
    /// When bytes are left.
    pub fn end(self) -> Result<(), MalformedMessage> {
        if self.0.is_empty() { Ok(()) } else { Err(MalformedMessage) }
    }
}

/// Appends a string.
pub(crate) fn put_string(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u32::try_from(bytes.len()).expect("messages have a maximum length");
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(bytes);
}

/// Appends a positive number of any size, given with or without leading zeros.
pub(crate) fn put_integer(out: &mut Vec<u8>, bytes: &[u8]) {
    let start = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len());
    let mut shortest = Vec::with_capacity(bytes.len() + 1);
    if bytes.get(start).is_some_and(|first| *first >= 0x80) {
        shortest.push(0);
    }
    shortest.extend_from_slice(&bytes[start..]);
    put_string(out, &shortest);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn truncated_values_and_non_minimal_or_negative_integers_are_refused() {
        assert_eq!(WireReader::new(&[0, 0, 0, 2, b'a']).string(), Err(MalformedMessage));
        assert_eq!(WireReader::new(&[0xff; 8]).string(), Err(MalformedMessage));
        assert_eq!(WireReader::new(&[0, 0, 0]).number(), Err(MalformedMessage));
        for integer in [&[][..], &[0], &[0, 1], &[0x80], &[0, 0, 0x80]] {
            let mut bytes = Vec::new();
            put_string(&mut bytes, integer);
            assert_eq!(WireReader::new(&bytes).integer(), Err(MalformedMessage), "{integer:?}");
        }
    }

    proptest! {
        #[test]
        fn an_integer_reads_back_without_leading_zeros(bytes in proptest::collection::vec(any::<u8>(), 1..40)) {
            prop_assume!(bytes.iter().any(|byte| *byte != 0));
            let mut out = Vec::new();
            put_integer(&mut out, &bytes);
            let start = bytes.iter().position(|byte| *byte != 0).unwrap();
            prop_assert_eq!(WireReader::new(&out).integer(), Ok(&bytes[start..]));
        }
    }
}

//! Requests in RESP, the protocol of Redis: arrays of bulk strings, and inline commands.
//! <https://redis.io/docs/latest/develop/reference/protocol-spec/>. Everything is read more strictly than servers read it and
//! is written again, so that Keyward and the server never read the same bytes as different commands.

use zeroize::Zeroizing;

/// The longest inline command (`PROTO_INLINE_MAX_SIZE` of Redis), in bytes.
pub const INLINE_BYTES_MAX: usize = 64 * 1024;

/// The longest line with a count or a length, in bytes.
pub const HEADER_BYTES_MAX: usize = 32;

/// The arguments of one command that servers accept (`processMultibulkBuffer` of Redis 6).
const ARGUMENTS_MAX: usize = 1024 * 1024;

/// The longest argument that is passed on, in bytes. Servers accept 512 MiB, unless they are configured otherwise.
const ARGUMENT_BYTES_MAX: usize = 4 * 1024 * 1024 * 1024;

/// Why bytes are no request. Nothing that the client sent is repeated.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RespFormatError {
    /// A line exceeds its maximum length.
    Line,
    /// Not a number, or one out of bounds.
    Number,
    /// Another type than a bulk string, or no end where it must be.
    Bulk,
    /// Quotes of an inline command do not match.
    Quotes,
    /// More arguments or bytes than a client that has not authenticated may send.
    TooLong,
}

impl RespFormatError {
    /// What is wrong.
    pub fn text(self) -> &'static str {
        match self {
            Self::Line => "a line is too long",
            Self::Number => "a count or a length is out of bounds",
            Self::Bulk => "an argument is no bulk string",
            Self::Quotes => "the quotes of an inline command do not match",
            Self::TooLong => "a command before the login is too long",
        }
    }
}

/// The arguments of a command.
pub type Arguments = Vec<Zeroizing<Vec<u8>>>;

/// A request's first line.
#[derive(Debug)]
pub enum FirstLine {
    /// An array with this many arguments; 0 is nothing at all.
    Array(usize),
    /// A whole command.
    Inline(Arguments),
}

/// The bound of the line that begins with `first`.
pub fn line_bytes_max(first: Option<u8>) -> usize {
    if first == Some(b'*') { HEADER_BYTES_MAX } else { INLINE_BYTES_MAX }
}

/// Reads the first line of a request, with its end.
pub fn first_line(line: &[u8]) -> Result<FirstLine, RespFormatError> {
    match line {
        [b'*', rest @ ..] => match rest.strip_suffix(b"\r\n").ok_or(RespFormatError::Line)? {
            // Servers ignore it.
            b"-1" => Ok(FirstLine::Array(0)),
            digits => Ok(FirstLine::Array(number(digits, ARGUMENTS_MAX)?)),
        },
        _ => inline(line).map(FirstLine::Inline),
    }
}

/// Reads the length of an argument, with the line's end.
pub fn bulk_length(line: &[u8]) -> Result<usize, RespFormatError> {
    let digits = line.strip_prefix(b"$").ok_or(RespFormatError::Bulk)?;
    number(digits.strip_suffix(b"\r\n").ok_or(RespFormatError::Line)?, ARGUMENT_BYTES_MAX)
}

fn number(digits: &[u8], max: usize) -> Result<usize, RespFormatError> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(RespFormatError::Number);
    }
    let text = std::str::from_utf8(digits).map_err(|_| RespFormatError::Number)?;
    text.parse().ok().filter(|number| *number <= max).ok_or(RespFormatError::Number)
}

/// Splits an inline command at spaces, with the quotes of Redis (`sdssplitargs`).
fn inline(line: &[u8]) -> Result<Arguments, RespFormatError> {
    let mut rest = line.iter().copied().peekable();
    let mut all = Arguments::new();
    loop {
        while rest.next_if(u8::is_ascii_whitespace).is_some() {}
        let Some(first) = rest.peek().copied() else { return Ok(all) };
        let mut argument = Zeroizing::new(Vec::new());
        let mut quote = None;
        while let Some(byte) = rest.next() {
            match (quote, byte) {
                // C ends a text there.
                (_, 0) => return Err(RespFormatError::Quotes),
                (None, b'"' | b'\'') => quote = Some(byte),
                (None, _) if byte.is_ascii_whitespace() => break,
                (Some(b'"'), b'\\') => argument.push(escaped(&mut rest)?),
                (Some(b'\''), b'\\') if rest.next_if_eq(&b'\'').is_some() => argument.push(b'\''),
                (Some(open), _) if byte == open => {
                    if rest.peek().is_some_and(|byte| !byte.is_ascii_whitespace()) {
                        return Err(RespFormatError::Quotes);
                    }
                    quote = None;
                    break;
                }
                _ => argument.push(byte),
            }
        }
        if quote.is_some() || first == 0 {
            return Err(RespFormatError::Quotes);
        }
        all.push(argument);
    }
}

/// What follows a backslash within double quotes.
fn escaped(
    rest: &mut std::iter::Peekable<impl Iterator<Item = u8> + Clone>,
) -> Result<u8, RespFormatError> {
    let byte = rest.next().ok_or(RespFormatError::Quotes)?;
    if byte == b'x' {
        let mut ahead = rest.clone();
        let mut digit = || char::from(ahead.next()?).to_digit(16);
        if let (Some(high), Some(low)) = (digit(), digit()) {
            *rest = ahead;
            return u8::try_from(high * 16 + low).map_err(|_| RespFormatError::Number);
        }
    }
    Ok(match byte {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 8,
        b'a' => 7,
        0 => return Err(RespFormatError::Quotes),
        other => other,
    })
}

/// Arguments that a client may send before it has authenticated (Redis: 10).
const EARLY_ARGUMENTS_MAX: usize = 10;

/// Bytes of a request before the client has authenticated (Redis: 16 KiB for an argument).
pub const EARLY_BYTES_MAX: usize = 16 * 1024;

/// Reads one whole command of a client that has not authenticated, and its length. `None`: there is more to come.
pub fn early_command(bytes: &[u8]) -> Result<Option<(Arguments, usize)>, RespFormatError> {
    let Some((line, mut at)) = line(bytes, 0)? else { return Ok(None) };
    let count = match first_line(line)? {
        FirstLine::Inline(arguments) => return Ok(Some((arguments, at))),
        FirstLine::Array(count) => count,
    };
    if count > EARLY_ARGUMENTS_MAX {
        return Err(RespFormatError::TooLong);
    }
    let mut arguments = Arguments::new();
    for _ in 0..count {
        let Some((header, begin)) = self::line(bytes, at)? else { return Ok(None) };
        let length = bulk_length(header)?;
        if length > EARLY_BYTES_MAX {
            return Err(RespFormatError::TooLong);
        }
        let Some(argument) = bytes.get(begin..begin + length) else { return Ok(None) };
        let Some(end) = bytes.get(begin + length..begin + length + 2) else { return Ok(None) };
        if end != b"\r\n" {
            return Err(RespFormatError::Bulk);
        }
        arguments.push(Zeroizing::new(argument.to_vec()));
        at = begin + length + 2;
    }
    Ok(Some((arguments, at)))
}

/// The line at `from`, with its end, and where the next one begins.
fn line(bytes: &[u8], from: usize) -> Result<Option<(&[u8], usize)>, RespFormatError> {
    let rest = &bytes[from..];
    match rest.iter().position(|byte| *byte == b'\n') {
        Some(end) => Ok(Some((&rest[..=end], from + end + 1))),
        None if rest.len() > EARLY_BYTES_MAX => Err(RespFormatError::Line),
        None => Ok(None),
    }
}

pub fn write_command(arguments: &[impl AsRef<[u8]>], out: &mut impl bytes::BufMut) {
    out.put_slice(format!("*{}\r\n", arguments.len()).as_bytes());
    for argument in arguments {
        write_argument(argument.as_ref(), out);
    }
}

pub fn write_argument(argument: &[u8], out: &mut impl bytes::BufMut) {
    out.put_slice(format!("${}\r\n", argument.len()).as_bytes());
    out.put_slice(argument);
    out.put_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(line: &[u8]) -> Result<Vec<Vec<u8>>, RespFormatError> {
        Ok(inline(line)?.into_iter().map(|argument| argument.to_vec()).collect())
    }

    #[test]
    fn inline_commands_are_split_as_redis_splits_them() {
        for (line, expected) in [
            (&b"\r\n"[..], vec![]),
            (b"  GET  a\r\n", vec![&b"GET"[..], b"a"]),
            (b"SET a \"b c\"\r\n", vec![b"SET", b"a", b"b c"]),
            (b"SET a 'b \\' c\\n'\n", vec![b"SET", b"a", b"b ' c\\n"]),
            (
                b"\"\\x43ON\\FIG\" \"\\r\\n\\t\\b\\a\\\\\\xzz\"\n",
                vec![b"CONFIG", b"\r\n\t\x08\x07\\xzz"],
            ),
            (b"a\"b c\"\n", vec![b"ab c"]),
            (b"a \"\"\n", vec![b"a", b""]),
        ] {
            assert_eq!(split(line).unwrap(), expected, "{line:?}");
        }
        for line in [&b"a \"b\r\n"[..], b"a 'b\r\n", b"a \"b\"c\r\n", b"a 'b'c\r\n", b"a\0b\r\n"] {
            assert_eq!(split(line), Err(RespFormatError::Quotes), "{line:?}");
        }
    }

    #[test]
    fn counts_out_of_bounds_and_lines_without_crlf_are_refused() {
        for line in [&b"*\r\n"[..], b"*+1\r\n", b"*-2\r\n", b"* 1\r\n", b"*1 \r\n", b"*1048577\r\n"]
        {
            assert!(first_line(line).is_err(), "{line:?}");
        }
        assert!(matches!(first_line(b"*1\n"), Err(RespFormatError::Line)));
        for line in [&b"$\r\n"[..], b"$-1\r\n", b"$99999999999999999999\r\n", b":1\r\n", b"$1\n"] {
            assert!(bulk_length(line).is_err(), "{line:?}");
        }
        assert_eq!(bulk_length(b"$5\r\n"), Ok(5));
        assert!(matches!(first_line(b"*-1\r\n"), Ok(FirstLine::Array(0))));
    }
}

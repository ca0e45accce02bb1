//! [`FormRewriter`]: writes values into a `multipart/form-data` body that arrives in pieces. It keeps what could belong
//! to a delimiter or to the fields of a part, and passes all other bytes at once.
//!
//! A value takes the place of the first part of its name, because intermediaries must not reorder parts (RFC 7578 §5.2)
//! and some servers read no fields after a file; further parts of that name are dropped. If the agent sends none, the
//! value is the last part: only the end of the body shows that none comes.
//!
//! The closing delimiter is written by [`FormRewriter::end`] alone, so a server that got less has no complete body.
//! The fields of a part: its name, and the part that a credential becomes.

use std::fmt;

use aho_corasick::AhoCorasick;
use zeroize::Zeroizing;

use super::super::body::{BodyError, BodyPath, is_same};
use super::{Delimiter, NO_BOUNDARY};

const NO_DELIMITER: BodyError =
    BodyError::Malformed("multipart/form-data with text where a delimiter belongs");

/// Two hyphens or a line end follow each delimiter.
const TAIL_BYTES: usize = 2;

/// The number of bytes that are examined together, so that a long body is not copied whole.
const PIECE_BYTES: usize = 64 * 1024;
/// The longest fields of a part: a disposition with a file's name has less than 1 KiB.
pub(super) const HEAD_BYTES_MAX: usize = 8 * 1024;

pub(super) const NO_NAME: BodyError =
    BodyError::Malformed("multipart/form-data with a part whose name is not plain");

/// Writes values into one body, piece by piece.
pub struct FormRewriter {
    delimiter: Delimiter,
    finder: AhoCorasick,
    fields: Vec<OpenPart>,
    state: PartState,
    /// Received bytes that are not decided yet. [`Self::push`] removes passed and dropped bytes before it returns.
    held: Vec<u8>,
    /// The number of bytes of `held` that were passed or dropped.
    done: usize,
    /// The number of bytes after `done` that were searched without a match.
    searched: usize,
    /// Whether a further part with the name of a value is an error: the body's length was already sent, so the part
    /// cannot be dropped.
    refuses_repeated: bool,
}

/// A value, and the part that it becomes.
struct OpenPart {
    name: String,
    part: Zeroizing<Vec<u8>>,
    is_written: bool,
}

/// What the undecided bytes begin with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum PartState {
    Begin,
    /// A delimiter that a part follows or that closes the body.
    Delimiter,
    /// The delimiter of a part, whose fields follow.
    Head,
    /// Bytes of a part's value.
    Value {
        passes: bool,
    },
    /// The closing delimiter.
    Close,
}

impl Delimiter {
    /// Writes `values` into a body with this delimiter.
    ///
    /// # Errors
    /// When a value has several lines.
    pub fn rewriter(&self, values: &[(&BodyPath, &str)]) -> Result<FormRewriter, BodyError> {
        if values.iter().any(|(_, value)| value.contains(['\r', '\n'])) {
            return Err(BodyError::Malformed(
                "multipart/form-data, and the credential has several lines",
            ));
        }
        let field = |(path, value): &(&BodyPath, &str)| OpenPart {
            name: path.to_string(),
            part: of_value(self, path, value),
            is_written: false,
        };
        Ok(FormRewriter {
            delimiter: self.clone(),
            finder: AhoCorasick::new([self.as_bytes()]).map_err(|_| NO_BOUNDARY)?,
            fields: values.iter().map(field).collect(),
            state: PartState::Begin,
            held: Vec::new(),
            done: 0,
            searched: 0,
            refuses_repeated: false,
        })
    }
}

impl FormRewriter {
    /// Takes the next bytes of the body, and appends what may be sent to `out`.
    ///
    /// # Errors
    /// When servers could divide the body differently.
    pub fn push(&mut self, sent: &[u8], out: &mut Vec<u8>) -> Result<(), BodyError> {
        for piece in sent.chunks(PIECE_BYTES) {
            self.held.extend_from_slice(piece);
            while self.next(out)? {}
            self.held.drain(..self.done);
            self.done = 0;
        }
        Ok(())
    }

    /// The body has ended: appends the rest. A body without any bytes has no parts.
    ///
    /// # Errors
    /// When it has no closing delimiter.
    pub fn end(&mut self, out: &mut Vec<u8>) -> Result<(), BodyError> {
        match self.state {
            PartState::Begin if self.held.is_empty() => {
                self.held.extend_from_slice(self.delimiter.as_bytes());
                self.held.extend_from_slice(b"--\r\n");
            }
            PartState::Close if matches!(self.after_delimiter(), b"--" | b"--\r\n") => {}
            _ => return Err(NO_DELIMITER),
        }
        for field in self.fields.iter_mut().filter(|field| !field.is_written) {
            out.extend_from_slice(&field.part);
            field.is_written = true;
        }
        out.append(&mut self.held);
        Ok(())
    }

    /// The most bytes that the next [`Self::push`] or [`Self::end`] appends in addition to those that it gets.
    pub fn room(&self) -> usize {
        let unwritten = self.fields.iter().filter(|field| !field.is_written);
        let values: usize = unwritten.map(|field| field.part.len()).sum();
        self.held.len() + values + self.delimiter.as_bytes().len() + b"--\r\n".len()
    }

    /// The number of values that are not written yet.
    pub fn unwritten(&self) -> usize {
        self.fields.iter().filter(|field| !field.is_written).count()
    }

    /// Refuses a further part of a value's name from now on, and does not drop it.
    pub fn refuse_repeated(&mut self) {
        self.refuses_repeated = true;
    }

    /// How many bytes it holds, if these and all that follow pass: all values are written, and repeated parts are refused.
    pub fn rest_passes(&self) -> Option<usize> {
        let is_settled = self.unwritten() == 0 && self.state != PartState::Value { passes: false };
        (self.refuses_repeated && is_settled).then_some(self.held.len())
    }

    /// Decides about the next bytes. `false`: more are needed.
    fn next(&mut self, out: &mut Vec<u8>) -> Result<bool, BodyError> {
        match self.state {
            PartState::Begin => self.begin(),
            PartState::Delimiter => self.delimiter(),
            PartState::Head => self.head(out),
            PartState::Value { passes } => self.value(passes, out),
            PartState::Close => match b"--\r\n".starts_with(self.after_delimiter()) {
                true => Ok(false),
                false => Err(NO_DELIMITER),
            },
        }
    }

    fn begin(&mut self) -> Result<bool, BodyError> {
        let delimiter = self.delimiter.as_bytes();
        let known = self.held.len().min(delimiter.len());
        if self.held[..known] != delimiter[..known] {
            return Err(NO_DELIMITER);
        }
        Ok(known == delimiter.len() && self.goes_to(PartState::Delimiter))
    }

    fn delimiter(&mut self) -> Result<bool, BodyError> {
        match self.after_delimiter().get(..TAIL_BYTES) {
            None => Ok(false),
            Some(b"\r\n") => Ok(self.goes_to(PartState::Head)),
            Some(b"--") => Ok(self.goes_to(PartState::Close)),
            Some(_) => Err(NO_DELIMITER),
        }
    }

    /// Reads the fields of a part, and passes or replaces them.
    fn head(&mut self, out: &mut Vec<u8>) -> Result<bool, BodyError> {
        const END: &[u8] = b"\r\n\r\n";
        let begin = self.delimiter.as_bytes().len() + TAIL_BYTES;
        let part = &self.undecided()[begin..];
        let found = part[self.searched..].windows(END.len()).position(|four| four == END);
        let Some(end) = found.map(|at| self.searched + at).filter(|end| *end < HEAD_BYTES_MAX)
        else {
            self.searched = (part.len() + 1).saturating_sub(END.len());
            return if self.searched < HEAD_BYTES_MAX { Ok(false) } else { Err(NO_NAME) };
        };
        let head = &part[..end];
        if self.finder.is_match(head) {
            return Err(NO_DELIMITER);
        }
        let name = name_of(head)?;
        let passes = self.passes(&name, out)?;
        self.advances(begin + end + END.len(), passes, out);
        Ok(self.goes_to(PartState::Value { passes }))
    }

    /// Whether the part of this name passes. A value that belongs in its place is written.
    fn passes(&mut self, name: &str, out: &mut Vec<u8>) -> Result<bool, BodyError> {
        let Some(field) = self.fields.iter_mut().find(|field| is_same(&field.name, name)) else {
            return Ok(true);
        };
        match (field.is_written, self.refuses_repeated) {
            (true, true) => return Err(BodyError::Repeated(field.name.as_str().into())),
            (true, false) => {}
            (false, _) => {
                out.extend_from_slice(&field.part);
                field.is_written = true;
            }
        }
        Ok(false)
    }

    /// Passes or drops a part's value up to the next delimiter, or up to where that may have begun.
    fn value(&mut self, passes: bool, out: &mut Vec<u8>) -> Result<bool, BodyError> {
        const LINE_END: &[u8] = b"\r\n";
        let delimiter_bytes = self.delimiter.as_bytes().len();
        let value = self.undecided();
        let Some(found) = self.finder.find(&value[self.searched..]) else {
            // The line end before the delimiter is needed too.
            let kept = (delimiter_bytes - 1 + LINE_END.len()).min(value.len());
            let decided = value.len() - kept;
            self.advances(decided, passes, out);
            self.searched = (kept + 1).saturating_sub(delimiter_bytes);
            return Ok(false);
        };
        let at = self.searched + found.start();
        // One line end belongs to the delimiter; the end of the part's fields is not it.
        if !value[..at].ends_with(LINE_END) {
            return Err(NO_DELIMITER);
        }
        self.advances(at, passes, out);
        Ok(self.goes_to(PartState::Delimiter))
    }

    /// Passes or drops the next `bytes`.
    fn advances(&mut self, bytes: usize, passes: bool, out: &mut Vec<u8>) {
        if passes {
            out.extend_from_slice(&self.undecided()[..bytes]);
        }
        self.done += bytes;
    }

    /// Continues in `state`. `true`: there may be more to do.
    fn goes_to(&mut self, state: PartState) -> bool {
        (self.state, self.searched) = (state, 0);
        true
    }

    fn undecided(&self) -> &[u8] {
        &self.held[self.done..]
    }

    /// What follows the delimiter that the undecided bytes begin with.
    fn after_delimiter(&self) -> &[u8] {
        &self.undecided()[self.delimiter.as_bytes().len()..]
    }
}

impl fmt::Debug for FormRewriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FormRewriter").field("state", &self.state).finish_non_exhaustive()
    }
}

/// The part with `value` in the field `path`, from its delimiter to the end of its last line.
fn of_value(delimiter: &Delimiter, path: &BodyPath, value: &str) -> Zeroizing<Vec<u8>> {
    // As browsers encode names: HTML, "multipart/form-data encoding algorithm".
    let name = path.to_string().replace('"', "%22");
    let head = format!("\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n");
    let pieces = [delimiter.as_bytes(), head.as_bytes(), value.as_bytes(), b"\r\n"];
    // It never grows, so that no copy is left.
    let mut part = Zeroizing::new(Vec::with_capacity(pieces.iter().map(|it| it.len()).sum()));
    pieces.iter().for_each(|piece| part.extend_from_slice(piece));
    part
}

/// The name of a part, of which its fields leave no doubt.
///
/// # Errors
/// When servers could read another name.
pub(super) fn name_of(head: &[u8]) -> Result<String, BodyError> {
    let head = std::str::from_utf8(head).map_err(|_| NO_NAME)?;
    let mut name = None;
    for line in head.split("\r\n") {
        let (field, value) = line.split_once(':').ok_or(NO_NAME)?;
        if line.contains(['\r', '\n', '\0']) || field.is_empty() || field.contains([' ', '\t']) {
            return Err(NO_NAME);
        }
        if field.eq_ignore_ascii_case("content-disposition")
            && name.replace(disposed(value.trim())?).is_some()
        {
            return Err(NO_NAME);
        }
    }
    name.ok_or(NO_NAME)
}

/// The name in a disposition, such as `form-data; name="file"; filename="a.txt"`.
fn disposed(value: &str) -> Result<String, BodyError> {
    let kind = value.get(..9).filter(|kind| kind.eq_ignore_ascii_case("form-data"));
    let mut rest = kind.map(|_| value[9..].trim_start()).ok_or(NO_NAME)?;
    let mut name = None;
    while !rest.is_empty() {
        let parameter = rest.strip_prefix(';').ok_or(NO_NAME)?.trim_start();
        let (key, text) = parameter.split_once('=').ok_or(NO_NAME)?;
        let (value, after) = match text.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').ok_or(NO_NAME)?,
            None => text.split_at(text.find(';').unwrap_or(text.len())),
        };
        // Some end the text at an escaped quote, and some after it.
        if value.ends_with('\\') || key.eq_ignore_ascii_case("name*") {
            return Err(NO_NAME);
        }
        if key.eq_ignore_ascii_case("name") {
            let is_plain = !value.contains('\\') && (text.starts_with('"') || !value.contains(' '));
            if !is_plain || name.replace(value.to_owned()).is_some() {
                return Err(NO_NAME);
            }
        }
        rest = after.trim_start();
    }
    name.ok_or(NO_NAME)
}

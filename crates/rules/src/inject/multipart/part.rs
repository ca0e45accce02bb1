//! The fields of a part: its name, and the part that a credential becomes.

use super::super::body::{BodyError, BodyPath};
use super::Delimiter;
use zeroize::Zeroizing;

/// The longest fields of a part: a disposition with a file's name has less than 1 KiB.
pub const HEAD_BYTES_MAX: usize = 8 * 1024;

pub const NO_NAME: BodyError =
    BodyError::Malformed("multipart/form-data with a part whose name is not plain");

/// The part with `value` in the field `path`, from its delimiter to the end of its last line.
pub fn of_value(delimiter: &Delimiter, path: &BodyPath, value: &str) -> Zeroizing<Vec<u8>> {
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
pub fn name_of(head: &[u8]) -> Result<String, BodyError> {
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
